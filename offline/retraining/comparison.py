"""The candidate's way of training against the live version, on events that neither has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.models.interactions import read_interactions
from recmesh.models.model import Float32
from recmesh.offline.evaluation.bootstrap import Interval, UserBootstrap
from recmesh.offline.evaluation.holdout import LAST, just_after
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.evaluation.temporal_split import EarlierDataset, quantile_moment
from recmesh.offline.metrics.relevance import ndcg
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

K = 10
SAMPLES = 1000
LEAST_USERS = 100
"""To be judged, before events since the live version's training are enough of a test."""


class Protocol(StrEnum):
    """What the live version's figure is of."""

    AS_SERVED = "as it serves"
    """The live artifact itself: it has seen nothing of the period."""
    RETRAINED = "its settings, retrained before the period"
    """The live artifact has seen the period, so its settings were trained anew before it."""
    FIRST = "nothing is live"
    IMPOSSIBLE = "not possible"


@dataclass(frozen=True, slots=True)
class Comparison:
    """nDCG@10 of the candidate's way of training and of the live version, user by user."""

    protocol: Protocol
    start: str
    """ISO 8601 moment: the candidate's way was trained on what lies before."""
    end: str
    users: int
    """Whom at least one of the two has an opinion on."""
    candidate: Interval
    live: Interval | None = None
    difference: Interval | None = None
    """Candidate minus live, paired."""
    why: str = ""
    """Why there is no comparison."""

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Comparison:
        """Reads what :func:`dataclasses.asdict` made."""

        def interval(name: str) -> Interval | None:
            return Interval(**said[name]) if said[name] else None

        return cls(
            Protocol(said["protocol"]),
            said["start"],
            said["end"],
            said["users"],
            Interval(**said["candidate"]),
            interval("live"),
            interval("difference"),
            said["why"],
        )


def period_to_judge(
    dataset: Dataset, until: datetime | None, live_newest: datetime | None
) -> tuple[Period, bool]:
    """What both are judged on, and whether the live version has seen nothing of it.

    Args:
        dataset: all data.
        until: no later event exists for us; None: all do.
        live_newest: the newest event or edge that the live version was trained on; None: not
            known, or nothing is live.

    Returns:
        The last tenth of the events, or what of it came after ``live_newest`` when at least
        100 users can be judged on that.

    Raises:
        DataError: the data set is too small to split.
    """
    if until is not None:
        dataset = EarlierDataset.of(dataset, until)
    events = read_interactions(dataset)
    start = quantile_moment(events, LAST)
    end = just_after(events)
    if live_newest is not None and live_newest < end:
        # Times of events are judged by the second.
        unseen = max(start, live_newest.replace(microsecond=0) + timedelta(seconds=1))
        try:
            found = period(dataset, unseen, end)
        except DataError:
            pass
        else:
            if len(found.users) >= LEAST_USERS:
                return found, True
    return period(dataset, start, end), False


def ndcg_of(raw: Float32, judged_on: Period) -> npt.NDArray[np.float64]:
    """nDCG@10 of raw scores ``[users, catalogue]`` by user; 0 without an opinion ``[users]``."""
    best = top_items(raw, judged_on.seen, K)
    judged = ndcg(hits_of(best, judged_on.wanted), wanted_counts(judged_on.wanted))
    return np.where(np.isfinite(raw).any(axis=1), judged, 0.0)


def compared(
    judged_on: Period,
    candidate: Float32,
    live: Float32 | None,
    *,
    protocol: Protocol,
    seed: int,
    why: str = "",
) -> Comparison:
    """Both on the users that at least one of them has an opinion on.

    A user whom only one knows counts 0 for the other: to lose users is to lose.

    Args:
        judged_on: the period.
        candidate: raw scores ``[users, catalogue]``; NaN is no opinion.
        live: the same of the live version; None: there are none.
        protocol: how ``live`` came about.
        seed: of the resamples.
        why: there is no ``live``.
    """
    known = np.isfinite(candidate).any(axis=1)
    if live is not None:
        known |= np.isfinite(live).any(axis=1)
    bootstrap = UserBootstrap(int(known.sum()), SAMPLES, seed)
    ours = ndcg_of(candidate, judged_on)[known]
    theirs = ndcg_of(live, judged_on)[known] if live is not None else None
    return Comparison(
        protocol=protocol,
        start=judged_on.known.moment.isoformat(),
        end=judged_on.end.isoformat(),
        users=int(known.sum()),
        candidate=bootstrap.mean(ours),
        live=bootstrap.mean(theirs) if theirs is not None else None,
        difference=bootstrap.difference(ours, theirs) if theirs is not None else None,
        why=why,
    )
