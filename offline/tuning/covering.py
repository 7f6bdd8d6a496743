"""The points of a front to keep: what was there before the search, and those that cover most
together, whoever the users are."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import moocore
import numpy as np

from recmesh.models.model import Progress, silent
from recmesh.offline.tuning.candidates import Float64, Int64
from recmesh.offline.tuning.front import HypervolumeBootstrap, hypervolume
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.rivals import measured
from recmesh.offline.tuning.study import Tried
from recmesh.offline.tuning.trial import TrialRun

LARGEST_FRONT = 40
MOST_MEASURED = 160
"""Points looked at user by user, the least beaten first."""
SAMPLES = 40
"""Of the users."""


def least_beaten(values: Float64, most: int) -> Int64:
    """Rows of ``values`` ``[n, metrics]``: the front, the front of the others, and so on, until
    there are ``most``; of equal points the first."""
    _, distinct = np.unique(values, axis=0, return_index=True)
    distinct.sort()
    rank = moocore.pareto_rank(values[distinct], maximise=True)
    return distinct[np.argsort(rank, kind="stable")[:most]].astype(np.int64)


def covering_rows(means: Float64, most: int, kept: Sequence[int] = ()) -> list[int]:
    """Points that cover most together, on average over samples of the users.

    The front of the mean over all users holds points that are there by luck and lacks others that
    are as good. What a set of points covers in expectation is submodular, so that taking the one
    that adds most, again and again, reaches 1 - 1/e of the best set (Nemhauser, Wolsey & Fisher
    1978).

    Args:
        means: of every sample ``[samples, points, metrics]``, ≥ 0.
        most: points to take.
        kept: rows that are taken before all others.

    Returns:
        Rows of the points, in the order taken.
    """
    taken: list[int] = list(kept[:most])
    covered = np.array([hypervolume(sample[taken]) for sample in means])

    def gain(point: int) -> float:
        rows = [*taken, point]
        return float(np.mean([hypervolume(sample[rows]) for sample in means]) - covered.mean())

    # A point never adds more later than it did before.
    queue = [
        (-gain(point), point, len(taken)) for point in range(means.shape[1]) if point not in taken
    ]
    heapq.heapify(queue)
    while queue and len(taken) < most:
        less, point, told_at = heapq.heappop(queue)
        if told_at < len(taken):
            heapq.heappush(queue, (-gain(point), point, len(taken)))
        elif less < 0:
            taken.append(point)
            covered = np.array([hypervolume(sample[taken]) for sample in means])
        else:
            break
    return taken


def covering(
    tried: Tried,
    run: TrialRun,
    incumbents: Sequence[Parameters],
    seed: int,
    progress: Progress = silent,
) -> list[Parameters]:
    """At most ``LARGEST_FRONT`` of what was tried, in the order of their nDCG.

    ``incumbents`` are kept whatever was tried: they were chosen without looking at this period,
    so that what it says of them is no luck, as it is in part of the best of hundreds of trials.
    """
    rows = least_beaten(tried.values, MOST_MEASURED)
    points = [run.space.within(point) for point in incumbents]
    points += [point for row in rows.tolist() if (point := tried.parameters[row]) not in points]
    values = measured(run, points)
    progress(1, 2, "points measured")
    means = HypervolumeBootstrap(values.shape[1], SAMPLES, seed).means(values)
    taken = covering_rows(means, LARGEST_FRONT, range(len(incumbents)))
    ndcg = values.mean(axis=1)[:, run.metrics.index("ndcg")]
    progress(2, 2, "points chosen")
    return [points[row] for row in sorted(taken, key=lambda row: float(ndcg[row]))]
