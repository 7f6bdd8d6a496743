"""Stale content: the newest of what is shown grows older while the catalogue's newest does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, measure, over
from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import DAY_S, Float64, ServingLog

BOUNDS = Bounds(allowed=1.5, severe=2.5, worse="above")
YOUNGEST = 0.1
"""Share of the slots that are looked at: what a feed without new items loses first."""
LEAST_DOCTORS_OF_SLICE = 50
MOMENTS = 29
"""At which the catalogue's own age is computed; between them it is interpolated."""
BIN = 0.25
"""Width, in log₂(1 + age in days)."""
BINS = 60
"""Up to 90 years."""
MIDDLES = BIN * (np.arange(BINS) + 0.5)


def catalogue_age(log: ServingLog) -> tuple[Float64, Float64]:
    """Moments ``[n]``, and the catalogue's own number then, log₂(1 + days) ``[n]``."""
    items = log.items
    moments = np.linspace(log.start_unix_s, log.end_unix_s, MOMENTS)
    dated = items.published_unix_s > 0
    published = items.published_unix_s[dated].astype(np.float64)
    expires = items.expires_unix_s[dated].astype(np.float64)
    ages = np.full(len(moments), np.nan)
    for at, now in enumerate(moments):
        out = (published <= now) & (expires > now)
        if out.any():
            age = np.sort(np.log2(1.0 + (now - published[out]) / DAY_S))
            ages[at] = age[: max(round(YOUNGEST * len(age)), 1)].mean()
    return moments, ages


def _youngest(sums: Float64) -> Float64:
    """Mean log₂(1 + age) of the youngest :data:`YOUNGEST` of the slots.

    A mean of a tail, unlike a quantile, is smooth enough for the jackknife.

    Args:
        sums: slots in every bin, then two columns that are not looked at ``[..., BINS + 2]``.
    """
    counts = sums[..., :BINS]
    below = np.cumsum(counts, axis=-1)
    wanted = YOUNGEST * below[..., -1:]
    taken = np.clip(wanted - (below - counts), 0.0, counts)
    return over(taken @ MIDDLES, wanted[..., 0])


def _days(sums: Float64) -> Float64:
    return np.asarray(np.exp2(_youngest(sums)) - 1.0, np.float64)


def _growth(before: Float64, after: Float64) -> Float64:
    """Of 1 + age, over the growth of the catalogue's."""
    shown = _youngest(after) - _youngest(before)
    catalogue = over(after[..., -2], after[..., -1]) - over(before[..., -2], before[..., -1])
    return np.asarray(np.exp2(shown - catalogue), np.float64)


def stale_content(log: ServingLog) -> Sequence[Answer]:
    """How much the age of the youngest shown items grew, beyond the catalogue's."""
    slots = log.slots
    published = log.items.published_unix_s[slots.item]
    around = np.interp(slots.unix_s, *catalogue_age(log))
    kept = log.browsed & (published > 0) & np.isfinite(around)
    age = np.log2(1.0 + np.maximum(slots.unix_s - published, 0.0) / DAY_S)
    columns = np.zeros((len(slots), BINS + 2))
    bins = np.clip((age / BIN).astype(np.int64), 0, BINS - 1)
    columns[np.arange(len(slots)), bins] = 1.0
    columns[:, -2], columns[:, -1] = around, 1.0
    rows = Rows(slots.doctor, slots.unix_s, slots.surface, columns).at(kept)
    return [
        measure(
            log,
            rows,
            _days,
            BOUNDS,
            change=_growth,
            times=True,
            least_doctors_of_slice=LEAST_DOCTORS_OF_SLICE,
        )
    ]


CHECK = Check(
    id="stale-content",
    title="Stale content",
    measures="Typical (geometric mean) age of the youngest tenth of shown slots, second half of "
    "the period over the first, over the same of the catalogue.",
    source="change of a tail mean (expected shortfall, Rockafellar & Uryasev 2000)",
    unit="times",
    sentence="The newest that is shown has become {value} as old as it was, beyond what the "
    "catalogue's newest did.",
    lever="See whether new items reach the mesh (recmesh status: catalogue lag; recmesh index), "
    "then raise freshness in objective_weights or add the source fresh.",
    run=stale_content,
    level="age of the youngest tenth",
    level_unit="days",
)
