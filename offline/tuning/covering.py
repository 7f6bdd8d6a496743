"""The points of a front to keep: starting points that hold up, and those that cover most together,
whoever the users are."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import moocore
import numpy as np

from recmesh.models.model import Progress, silent
from recmesh.offline.tuning.candidates import Float64, Int64
from recmesh.offline.tuning.front import HypervolumeBootstrap, hypervolume, non_dominated
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


def steadfast_rows(means: Float64, first: int) -> list[int]:
    """Which of the first points are on the front of all in most samples of the users.

    Args:
        means: of every sample ``[samples, points, metrics]``.
        first: how many to ask about.

    Returns:
        Their rows, those that are on it most often first.
    """
    on_front = np.zeros(means.shape[1], np.int64)
    for sample in means:
        on_front[non_dominated(sample)] += 1
    order = np.argsort(-on_front[:first], kind="stable")
    return [row for row in order.tolist() if 2 * on_front[row] > len(means)]


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
    starts: Sequence[Parameters],
    seed: int,
    progress: Progress = silent,
) -> list[Parameters]:
    """At most ``LARGEST_FRONT`` of what was tried, in the order of their nDCG.

    ``starts`` are the points that the search started at. Those that are on the front in most
    resamples of the users are kept: a point that was chosen before the search is less likely to
    be there by luck than the best of hundreds that were tried.
    """
    rows = least_beaten(tried.values, MOST_MEASURED)
    points = [run.space.within(point) for point in starts]
    points += [tried.parameters[row] for row in rows.tolist()]
    values = measured(run, points)
    progress(1, 2, "points measured")
    means = HypervolumeBootstrap(values.shape[1], SAMPLES, seed).means(values)
    taken = covering_rows(means, LARGEST_FRONT, steadfast_rows(means, len(starts)))
    ndcg = values.mean(axis=1)[:, run.metrics.index("ndcg")]
    progress(2, 2, "points chosen")
    return [points[row] for row in sorted(taken, key=lambda row: float(ndcg[row]))]
