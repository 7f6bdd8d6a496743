"""What a front has of a further metric where its nDCG is another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.tuning.candidates import Float64
from recmesh.offline.tuning.front import HypervolumeBootstrap, interval, non_dominated


@dataclass(frozen=True, slots=True)
class AtEqualNdcg:
    """One further metric, where a rival's nDCG is best."""

    theirs: float
    """The rival's value there."""
    gain: Interval
    """What the tuned front has more at that nDCG."""


def most_at(points: Float64, ndcg: float) -> float:
    """The most of a metric that points give at no less nDCG, alone or two of them mixed.

    Requests that are answered by one point or by another, at random, have on average what lies on
    the line between the two.

    Args:
        points: nDCG and the metric ``[n, 2]``, in [0, 1].
        ndcg: to be reached.

    Returns:
        0 where no point reaches it.
    """
    front = points[non_dominated(points)]
    enough = front[:, 0] >= ndcg
    if not enough.any():
        return 0.0
    above, below = front[enough], front[~enough]
    share = (ndcg - below[:, :1]) / (above[:, 0] - below[:, :1])
    mixed = below[:, 1:] + share * (above[:, 1] - below[:, 1:])
    return float(max(above[:, 1].max(), mixed.max(initial=0.0)))


def at_equal_ndcg(
    tuned: Float64, rival: Float64, metrics: Sequence[str], bootstrap: HypervolumeBootstrap
) -> dict[str, AtEqualNdcg]:
    """The tuned front beside the rival's point of the best nDCG, by further metric.

    Args:
        tuned: of every user's page, for every point ``[points, users, metrics]``.
        rival: the same, of the rival's points.
        metrics: their names, ``ndcg`` among them.
        bootstrap: resamples of the users.
    """
    at = list(metrics).index("ndcg")
    best = rival[[int(rival.mean(axis=1)[:, at].argmax())]]
    ours = [tuned.mean(axis=1), *bootstrap.means(tuned)]
    theirs = [best.mean(axis=1)[0], *bootstrap.means(best)[:, 0]]
    found = {}
    for column, name in enumerate(metrics):
        if column != at:
            gains = [
                most_at(points[:, [at, column]], point[at]) - point[column]
                for points, point in zip(ours, theirs, strict=True)
            ]
            gain = interval(gains[0], np.array(gains[1:]))
            found[name] = AtEqualNdcg(float(theirs[0][column]), gain)
    return found
