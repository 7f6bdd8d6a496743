"""An upper bound on the value of any slate, so that a greedy one's gap is known.

The problem is relaxed until it can be solved by sorting. Candidates are parted into groups
whose members share a topic. In a group, an item that is not the first costs at least what
likeness to one member costs (for DPP by Fischer's inequality: the determinant of a whole is
at most the product of its parts'), and no more members come in than the tightest cap of their
common topic lets. So a group's next member is worth less and less, and the best slate takes
the most valuable members of all groups. Sponsored candidates are groups of their own, of
which no more than the share and the spacing allow are taken.

Two partitions are tried, by equal topic sets and by one topic of each candidate; the lower
bound holds. Caps on authors and sponsors, and reserved slots, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.slate.candidates import Bool, Float64, Int32, Int64, TopicSets

LeastCost = Callable[[Float64, Float64], Float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What is to be chosen after the pins."""

    eligible: Bool
    """Who may be chosen ``[n]``."""
    pinned: Bool
    """Who is selected already ``[n]``."""
    sponsored: Bool
    """``[n]``"""
    slots: int
    """To fill, exactly."""
    most_sponsored: int
    """Slots of them that can be sponsored."""
    topic_room: Int64
    """For further items of every topic ``[n_topics]``."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """A partition of the candidates; all arrays ``[n]``."""

    label: Int64
    similarity: Float64
    """Every pair of the candidate's group is at least so similar; 0: has no topic."""
    room: Int64
    """For further items of the group."""


def _tightest(topics: TopicSets, room: Int64) -> Int64:
    """Room of the fullest of every candidate's topics ``[n]``."""
    unlimited = np.iinfo(np.int64).max
    rooms = np.where(topics.has > 0, room, unlimited)
    return np.asarray(rooms.min(axis=1, initial=unlimited), np.int64)


def _by_topic_set(topics: TopicSets, bits: npt.NDArray[np.uint64], room: Int64) -> _Groups:
    keys = bits[:, 0] if bits.shape[1] == 1 else bits.view(f"V{8 * bits.shape[1]}")[:, 0]
    label = np.unique(keys, return_inverse=True)[1]
    return _Groups(label, (topics.size > 0).astype(np.float64), _tightest(topics, room))


def _by_topic(topics: TopicSets, chosen: Int32, room: Int64) -> _Groups:
    """Each candidate goes with that of its topics that the slate has most of."""
    n_topics = topics.has.shape[1]
    often = topics.has[chosen].sum(axis=0) + 1
    label = np.where(topics.size > 0, (topics.has * often).argmax(axis=1), n_topics)
    largest = np.ones(n_topics + 1)
    np.maximum.at(largest, label, topics.size)
    alike = np.where(topics.size > 0, 1.0 / (2.0 * largest[label] - 1.0), 0.0)
    return _Groups(label, alike, np.append(room, topics.size.size)[label])


class _Sorted:
    """The candidates by group, and in a group by worth, for one partition."""

    def __init__(self, groups: _Groups, rest: Remaining, least_cost: LeastCost) -> None:
        self._rest = rest
        self._groups = groups
        self._least_cost = least_cost
        self._who = np.flatnonzero(rest.eligible)
        self._label = 2 * groups.label[self._who] + rest.sponsored[self._who]
        self._pins = np.bincount(
            groups.label[rest.pinned], minlength=groups.label.max(initial=0) + 1
        )

    def added(self, worth: Float64) -> tuple[float, Int32]:
        """The most that the remaining slots can add, and by whom."""
        rest, groups = self._rest, self._groups
        order = np.lexsort((-worth[self._who], self._label))
        who, label = self._who[order], self._label[order]
        place = np.arange(len(label))
        starts = np.ones(len(label), bool)
        starts[1:] = label[1:] != label[:-1]
        earlier = place - np.maximum.accumulate(np.where(starts, place, 0))
        alike = (earlier + self._pins[groups.label[who]]).astype(np.float64)
        cost = self._least_cost(groups.similarity[who], alike)
        values: Float64 = np.subtract(worth[who], cost)
        values[earlier >= groups.room[who]] = -np.inf
        sponsored = rest.sponsored[who]
        if rest.most_sponsored < rest.slots and sponsored.any():
            paid = np.flatnonzero(sponsored)
            worst = np.argsort(-values[paid], kind="stable")[max(rest.most_sponsored, 0) :]
            values[paid[worst]] = -np.inf
        best = np.argsort(-values, kind="stable")[: rest.slots]
        return float(values[best].sum()), who[best].astype(np.int32)


class UpperBound:
    """Bounds on what any choice for the remaining slots can add to the pins' value."""

    def __init__(
        self,
        topics: TopicSets,
        bits: npt.NDArray[np.uint64],
        chosen: Int32,
        rest: Remaining,
        least_cost: LeastCost,
    ) -> None:
        """See there.

        Args:
            topics: of the candidates.
            bits: the same, ``[n, n_words]``.
            chosen: the slate that was found; it steers a partition, nothing else.
            rest: what is to be chosen.
            least_cost: of diversity, see :meth:`Mmr.least_cost`, times its strength.
        """
        self._slots = rest.slots
        partitions = [_by_topic_set(topics, bits, rest.topic_room)]
        if topics.size.max(initial=0) > 1:
            partitions.append(_by_topic(topics, chosen, rest.topic_room))
        self._sorted = [_Sorted(groups, rest, least_cost) for groups in partitions]

    def added(self, worth: Float64) -> tuple[float, Int32]:
        """The most that can be added when candidates add at most ``worth`` ``[n]``, and by whom.

        The partition that bounds better at the first call is kept for others.
        """
        if not self._slots:
            return 0.0, np.empty(0, np.int32)
        found = [partition.added(worth) for partition in self._sorted]
        best = min(range(len(found)), key=lambda i: found[i][0])
        self._sorted = [self._sorted[best]]
        return found[best]
