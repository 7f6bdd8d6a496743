"""Filter bubbles: doctors whose pages hold ever fewer topics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import sparse

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import (
    Bounds,
    Rows,
    columns_of,
    measure,
    over,
    ratio,
    relative_change,
)
from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import Float64, Int64, ServingLog

BOUNDS = Bounds(allowed=0.9, severe=0.7, worse="below")
STRETCHES = 4
"""An even number: a half of the period has whole ones."""
LEAST_SLOTS = 5


def unlike_pairs(cell: Int64, shares: sparse.csr_matrix, cells: int) -> Float64:
    """Chance that two of a cell's slots share no topic ``[cells]``; NaN below two slots.

    1 − Σ over pairs of the inner product of their topics' shares, over the number of pairs:
    Simpson's index (Simpson 1949) without bias, so that cells of other sizes compare (Hurlbert
    1971).

    Args:
        cell: the cell of every slot ``[slots]``.
        shares: every slot's topics, adding up to 1 ``[slots, topics]``.
        cells: how many there are.
    """
    count = len(cell)
    of_cell = sparse.csr_matrix((np.ones(count), (cell, np.arange(count))), shape=(cells, count))
    sums = of_cell @ shares
    n = np.asarray(of_cell.sum(axis=1)).ravel()
    own = np.asarray(of_cell @ np.asarray(shares.multiply(shares).sum(axis=1)).ravel())
    alike = np.asarray(sums.multiply(sums).sum(axis=1)).ravel() - own
    return 1.0 - over(alike, n * (n - 1))


def topic_shares(topics: sparse.csr_matrix) -> sparse.csr_matrix:
    """Topics of every item, adding up to 1; an item without any is alike to none."""
    sizes = np.asarray(topics.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1.0 / np.maximum(sizes, 1.0)) @ topics)


def filter_bubble(log: ServingLog) -> Sequence[Answer]:
    """Topic diversity of each doctor's slots, second half over first, over what was offered."""
    slots = log.slots
    known = np.asarray(log.items.topics.sum(axis=1)).ravel()[slots.item] > 0
    kept = log.browsed & known
    edges = np.linspace(log.start_unix_s, log.end_unix_s, STRETCHES + 1)
    stretch = np.clip(np.searchsorted(edges, slots.unix_s, side="right") - 1, 0, STRETCHES - 1)
    cell = slots.doctor * STRETCHES + stretch
    cells = len(log.doctors) * STRETCHES
    shares = topic_shares(log.items.topics)[slots.item[kept]]
    diversity = unlike_pairs(cell[kept], shares, cells)
    enough = np.bincount(cell[kept], minlength=cells) >= LEAST_SLOTS
    known_well = np.asarray(enough & np.isfinite(diversity), np.bool_)
    filled = known_well.reshape(-1, STRETCHES)
    half = STRETCHES // 2
    # Only who came in both halves, each half weighing the same.
    both = np.asarray(filled[:, :half].any(axis=1) & filled[:, half:].any(axis=1))
    filled &= both[:, None]
    doctor, at = np.nonzero(filled)
    late = at >= half
    in_half = np.stack([filled[:, :half].sum(axis=1), filled[:, half:].sum(axis=1)], axis=1)
    weight = 1.0 / in_half[doctor, late.astype(np.int64)]
    value = diversity.reshape(-1, STRETCHES)[doctor, at] / _offered(log)[at]
    middle = (edges[:-1] + edges[1:]) / 2
    rows = Rows(
        doctor.astype(np.int64),
        middle[at],
        np.full(len(doctor), slots.surface[0] if len(slots) else 0, np.int64),
        columns_of(weight * value, weight),
    )

    source = "candidates" if log.pages is not None else "catalogue"
    return [
        measure(
            log,
            rows,
            ratio(),
            BOUNDS,
            change=relative_change(ratio()),
            note=f"against what the {source} offered",
            least_rows=2 * 30,
            times=True,
        )
    ]


def _offered(log: ServingLog) -> Float64:
    """Diversity of what could have been shown in each stretch ``[stretches]``."""
    edges = np.linspace(log.start_unix_s, log.end_unix_s, STRETCHES + 1)
    pages = log.pages
    offered = np.full(STRETCHES, np.nan)
    for number, (start, end) in enumerate(pairwise(edges.tolist())):
        if pages is not None:
            within = (pages.unix_s >= start) & (pages.unix_s <= end)
            of_pages = pages.offered_diversity[within & ~log.asked[pages.surface]]
            if np.isfinite(of_pages).any():
                offered[number] = np.nanmean(of_pages)
                continue
        items = log.items
        out = (items.published_unix_s <= end) & (items.expires_unix_s > start)
        out &= np.asarray(items.topics.sum(axis=1)).ravel() > 0
        shares = topic_shares(items.topics)[out]
        offered[number] = unlike_pairs(np.zeros(int(out.sum()), np.int64), shares, 1)[0]
    return offered


CHECK = Check(
    id="filter-bubble",
    title="Filter bubbles",
    measures="Chance that two slots of a doctor share no topic, over that of what was offered; "
    "mean over doctors, second half of the period over the first.",
    source="Nguyen et al., WWW 2014; Simpson 1949, unbiased as in Hurlbert 1971",
    unit="times",
    sentence="A doctor's pages are only {value} as diverse as they were in the first half.",
    lever="Raise diversity_strength or lower max_per_topic of the slate, or calibration_weight "
    "where interests are wide (python -m benchmarks.diversity_choices).",
    run=filter_bubble,
    level="diversity over the offered",
    level_unit="number",
)
