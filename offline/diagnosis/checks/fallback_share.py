"""Fallback share: pages that had to do without a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, columns_of, measure, ratio
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import ServingLog

BOUNDS = Bounds(allowed=0.02, severe=0.1, worse="above")


def fallback_share(log: ServingLog) -> Sequence[Answer]:
    """One share for every source that any page had to do without."""
    pages = log.pages
    if pages is None:
        return [TooFew("", "no decision records: recorded events do not say what was degraded")]
    return [
        measure(
            log,
            Rows(
                pages.doctor,
                pages.unix_s,
                pages.surface,
                columns_of(pages.degraded[:, at], np.ones(len(pages))),
            ),
            ratio(),
            BOUNDS,
            subject=f"source {name}",
        )
        for at, name in enumerate(log.sources)
    ]


CHECK = Check(
    id="fallback-share",
    title="Fallback share",
    measures="Share of pages that were answered without a source, one number a source.",
    source="a share",
    unit="share",
    sentence="{value} of the pages did without {subject}.",
    lever="recmesh status says whether it is down or slow; give it replicas, or a longer "
    "source_timeout_s where it is slow only.",
    run=fallback_share,
)
