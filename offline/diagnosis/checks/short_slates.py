"""Empty and short slates: pages with fewer slots than were asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, columns_of, measure, ratio
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import ServingLog

SHORT = Bounds(allowed=0.02, severe=0.1, worse="above")
EMPTY = Bounds(allowed=0.002, severe=0.02, worse="above")


def short_slates(log: ServingLog) -> Sequence[Answer]:
    """Share of short pages, and of empty ones."""
    pages = log.pages
    if pages is None:
        return [TooFew("", "no decision records: recorded events do not say what was asked for")]
    asked = pages.requested > 0
    ones = np.ones(len(pages))
    return [
        measure(
            log,
            Rows(pages.doctor, pages.unix_s, pages.surface, columns_of(which, ones)).at(asked),
            ratio(),
            bounds,
            subject=subject,
        )
        for subject, which, bounds in (
            ("short", pages.filled < pages.requested, SHORT),
            ("empty", pages.filled == 0, EMPTY),
        )
    ]


CHECK = Check(
    id="short-slates",
    title="Empty or short slates",
    measures="Share of first pages without a caller's filter that have fewer slots than were to be "
    "filled; share with none.",
    source="a share",
    unit="share",
    sentence="{value} of the pages are {subject}.",
    lever="recmesh explain REQUEST_ID ITEM says which rule removes candidates: raise "
    "source_limit, add the source popular, loosen caps or the caller's filter.",
    run=short_slates,
)
