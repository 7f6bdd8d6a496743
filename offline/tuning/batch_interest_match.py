"""The match with interests for all users at once.

Costs are those of :class:`recmesh.orchestrator.slate.interest_match.InterestMatch`, to the last
bit. What a topic adds to a page depends on the item only by how many topics it has, so the
logarithms are taken once for every user, topic and such number, not for every candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.slate.candidates import Float32, Float64, Int32, Int64
from recmesh.orchestrator.slate.interest_match import SMOOTHING

NO_TOPIC = -1


@dataclass(frozen=True)
class InterestTopics:
    """The topics that users care about, among those of their candidates; no trial changes it."""

    interest: Float64
    """Share of every such topic ``[users, topics + 1]``; 0 where a user has fewer. The last
    stands for all that a user does not care about."""
    column: Int64
    """Topics of every candidate, as columns of ``interest`` ``[users, width, most]``."""
    kind: Int64
    """How many topics every candidate has, as a place in ``share`` ``[users, width]``."""
    share: Float64
    """One over each number of topics that a candidate may have ``[kinds]``."""

    @classmethod
    def of(cls, topics: Int32, interests: Float32) -> InterestTopics | None:
        """The same from topic bits; None: nobody has interests among their candidates.

        Args:
            topics: topic bits of every candidate ``[users, width, most]``; -1 fills up.
            interests: of every topic bit ``[users, bits]``, ≥ 0; all 0: unknown.
        """
        n_users = len(topics)
        everyone = np.arange(n_users)[:, None]
        flat = topics.reshape(n_users, -1)
        # Of topic -1 this marks the last bit, which is taken back.
        offered = np.zeros((n_users, interests.shape[1] + 1), bool)
        offered[everyone, flat] = True
        wanted = np.where(offered[:, :-1], interests, 0.0).astype(np.float64)
        counts = (wanted > 0).sum(axis=1)
        most = int(counts.max(initial=0))
        if not most:
            return None
        order = np.argsort(wanted <= 0, axis=1, kind="stable")[:, :most]
        interest = np.zeros((n_users, most + 1))
        interest[:, :most] = np.take_along_axis(wanted, order, axis=1)
        for user, count in enumerate(counts.tolist()):
            # Summed as the solver does, over the offered topics in their order.
            own = interests[user, offered[user, :-1]].astype(np.float64)
            interest[user, :count] /= max(float(own.sum()), np.finfo(float).tiny)
        column_of = np.full((n_users, interests.shape[1] + 1), most, np.int64)
        cares = np.arange(most) < counts[:, None]
        users, at = np.nonzero(cares)
        column_of[users, order[users, at]] = at
        size = (topics != NO_TOPIC).sum(axis=2)
        sizes, kind = np.unique(np.maximum(size, 1), return_inverse=True)
        return cls(
            interest=interest,
            column=column_of[everyone, flat].reshape(topics.shape),
            kind=kind.reshape(size.shape).astype(np.int64),
            share=1.0 / sizes,
        )

    @property
    def places(self) -> npt.NDArray[np.intp]:
        """Where :meth:`BatchInterestMatch.cost` finds every candidate's topics in its flat table
        of users, numbers of topics and topics ``[most, users, width]``."""
        n_users, columns = self.interest.shape
        table = np.arange(n_users)[:, None] * len(self.share) + self.kind
        places = table[:, :, None] * columns + self.column
        return np.ascontiguousarray(np.moveaxis(places, 2, 0), np.intp)


class BatchInterestMatch:
    """Pages in the making, one a user."""

    def __init__(self, topics: InterestTopics, places: npt.NDArray[np.intp]) -> None:
        self._topics, self._places = topics, places
        self._each = (1 - SMOOTHING) * topics.share[None, :, None]
        # Without an interest there is nothing to divide by, and nothing to gain.
        self._none = (topics.interest == 0).astype(np.float64)
        self._counts = np.zeros(topics.interest.shape)
        self._users = np.arange(len(topics.interest))
        self._taken = 0

    def cost(self) -> Float64:
        """What each candidate adds to divergence times length ``[users, width]``."""
        n, interest = self._taken + 1, self._topics.interest
        without = (1 - SMOOTHING) / n * self._counts + SMOOTHING * interest + self._none
        gains = np.log1p(self._each / (n * without)[:, None, :]) * interest[:, None, :]
        flat = gains.ravel()
        nearer: Float64 = flat.take(self._places[0])
        for places in self._places[1:]:
            nearer += flat.take(places)
        nearer *= -n
        return nearer

    def take(self, chosen: Int64) -> None:
        """The candidate at ``chosen`` ``[users]`` is selected for every user."""
        column = self._topics.column[self._users, chosen]
        share = self._topics.share[self._topics.kind[self._users, chosen]]
        for own in column.T:
            self._counts[self._users, own] += share
        self._taken += 1
