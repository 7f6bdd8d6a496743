"""Stale content: what is shown grows older while the catalogue does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import (
    Bounds,
    Rows,
    columns_of,
    measure,
    over,
    relative_change,
)
from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import DAY_S, Float64, ServingLog

BOUNDS = Bounds(allowed=1.2, severe=1.6, worse="above")
MOMENTS = 29
"""At which the catalogue's own age is computed; between them it is interpolated."""


def catalogue_age(log: ServingLog) -> tuple[Float64, Float64]:
    """Moments ``[n]``, and the mean of log₂(1 + age in days) of all that is out then ``[n]``."""
    items = log.items
    moments = np.linspace(log.start_unix_s, log.end_unix_s, MOMENTS)
    dated = items.published_unix_s > 0
    published = items.published_unix_s[dated].astype(np.float64)
    expires = items.expires_unix_s[dated].astype(np.float64)
    ages = np.empty(len(moments))
    for at, now in enumerate(moments):
        out = (published <= now) & (expires > now)
        age = np.log2(1.0 + (now - published[out]) / DAY_S)
        ages[at] = age.mean() if len(age) else np.nan
    return moments, ages


def _typical(sums: Float64) -> Float64:
    """Geometric mean of 1 + age, over the catalogue's."""
    return np.asarray(np.exp2(over(sums[..., 0] - sums[..., 1], sums[..., 2])), np.float64)


def stale_content(log: ServingLog) -> Sequence[Answer]:
    """How much the typical age of shown items grew, beyond the catalogue's."""
    slots = log.slots
    published = log.items.published_unix_s[slots.item]
    kept = log.browsed & (published > 0)
    age = np.log2(1.0 + np.maximum(slots.unix_s - published, 0.0) / DAY_S)
    moments, ages = catalogue_age(log)
    around = np.interp(slots.unix_s, moments, ages)
    rows = Rows(
        slots.doctor,
        slots.unix_s,
        slots.surface,
        columns_of(age, around, np.ones(len(slots))),
    ).at(kept & np.isfinite(around))
    return [measure(log, rows, _typical, BOUNDS, change=relative_change(_typical))]


CHECK = Check(
    id="stale-content",
    title="Stale content",
    measures="Typical (geometric mean) age of shown items over the catalogue's, second half of "
    "the period over the first.",
    source="change between two periods; the geometric mean because ages are skewed",
    unit="times",
    sentence="What is shown has become {value} as old as it was, beyond what the catalogue did.",
    lever="See whether new items reach the mesh (recmesh status: catalogue lag; recmesh index), "
    "then raise freshness in objective_weights or add the source fresh.",
    run=stale_content,
    level="age over the catalogue's",
    level_unit="times",
)
