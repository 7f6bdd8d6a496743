"""What judged pages come to, with intervals: of segments and of slices of the users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from recmesh.models.model import Progress
from recmesh.offline.evaluation.bootstrap import Interval, UserBootstrap
from recmesh.offline.evaluation.page_judge import JudgedPages, relevance_of
from recmesh.offline.evaluation.report import SliceFigures
from recmesh.offline.evaluation.user_slices import UserSlice
from recmesh.offline.metrics.descriptions import DESCRIPTIONS, Description
from recmesh.offline.metrics.exposure import lorenz
from recmesh.offline.metrics.relevance import Bool

NEW_AS_MISSES = "ndcg_new_as_misses"
POOLED_OF_SLICES = ("popularity_lift",)
"""Of small groups, coverage and the like measure mostly how many users there are."""
LORENZ_DIGITS = 5


@dataclass(frozen=True, slots=True)
class JudgedSystem:
    """One system on the test period."""

    name: str
    kind: str
    """``baseline``, ``model`` or ``blend``."""
    pages: JudgedPages


def figures_of(
    pages: JudgedPages, users: Bool, users_wanting_only_new: int, bootstrap: UserBootstrap
) -> dict[str, Interval]:
    """Every metric of a segment.

    Args:
        pages: one system's.
        users: the segment ``[users]``, not empty.
        users_wanting_only_new: of the segment, who are not among ``users`` at all.
        bootstrap: over the segment's users.
    """
    found = {metric: bootstrap.mean(values[users]) for metric, values in pages.by_user.items()}
    # Users who want only new items score 0 then, whatever is ranked.
    share = float(users.sum() / (users.sum() + users_wanting_only_new))
    misses = found[NEW_AS_MISSES]
    found[NEW_AS_MISSES] = Interval(misses.value * share, misses.low * share, misses.high * share)
    for metric, pooled in pages.pooled.items():
        own = pooled.of(users)
        found[metric] = bootstrap.pooled(own.columns, own.statistic, own.least, own.most)
    return found


def slice_figures(
    systems: Sequence[JudgedSystem],
    slices: Sequence[UserSlice],
    samples: int,
    seed: int,
    progress: Progress,
) -> list[SliceFigures]:
    """The metrics of every slice and system; of slices by surface those of relevance alone."""
    found = []
    for number, one in enumerate(slices):
        progress(number, len(slices), "slices of users resampled")
        bootstrap = UserBootstrap(int(one.users.sum()), samples, seed)
        by_system = {s.name: _of_slice(s.pages, one, bootstrap) for s in systems}
        found.append(SliceFigures(one.dimension, one.name, int(one.users.sum()), by_system))
    progress(len(slices), len(slices), "slices of users resampled")
    return found


def _of_slice(pages: JudgedPages, one: UserSlice, bootstrap: UserBootstrap) -> dict[str, Interval]:
    if one.wanted is not None:
        values = relevance_of(pages.best, one.wanted)
        return {metric: bootstrap.mean(found[one.users]) for metric, found in values.items()}
    values = {m: found for m, found in pages.by_user.items() if m != NEW_AS_MISSES}
    figures = {metric: bootstrap.mean(found[one.users]) for metric, found in values.items()}
    for metric in POOLED_OF_SLICES:
        own = pages.pooled[metric].of(one.users)
        figures[metric] = bootstrap.pooled(own.columns, own.statistic, own.least, own.most)
    return figures


def measured(
    figures: Mapping[str, Mapping[str, Mapping[str, Interval]]], k: int
) -> list[Description]:
    """The metrics that the data allow, that some system has a value of in some segment.

    Args:
        figures: by system, segment and metric.
        k: length of the page, for the labels.
    """
    known = {
        metric
        for segments in figures.values()
        for values in segments.values()
        for metric, interval in values.items()
        if np.isfinite(interval.value)
    }
    return [replace(d, label=d.label.format(k=k)) for d in DESCRIPTIONS if d.metric in known]


def exposure_curve(exposure: sparse.csr_matrix) -> list[float]:
    """Lorenz curve of all users' attention, at every hundredth of the catalogue ``[101]``."""
    sums = np.asarray(exposure.sum(axis=0), np.float64).ravel()
    return np.round(lorenz(sums), LORENZ_DIGITS).tolist() if sums.sum() > 0 else []
