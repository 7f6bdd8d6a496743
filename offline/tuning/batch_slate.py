"""The slate solver for all users at once.

Fills the slots exactly as :func:`recmesh.orchestrator.slate.select.select` does for one request
(a test holds the two together), in steps of one slot for everybody, so that a trial over
hundreds of users takes milliseconds. Pins, boosts, blocks, exploration and caps on sponsors are
not tuned and left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.offline.tuning.batch_interest_match import NO_TOPIC, BatchInterestMatch
from recmesh.offline.tuning.candidates import Bool, Candidates, Float64, Int64
from recmesh.orchestrator.slate.dpp import SAME_TOPICS
from recmesh.orchestrator.slate.rules import RELAXATION_ORDER, SlateRules

TOPIC_PLACE = RELAXATION_ORDER.index("max_per_topic") + 1
AUTHOR_PLACE = RELAXATION_ORDER.index("max_per_author") + 1
_NOBODY = np.iinfo(np.int8).max


class _Likeness:
    """What each candidate costs for being like those selected ``[users, width]``."""

    def __init__(self, candidates: Candidates, kind: str, slots: int) -> None:
        self._similarity = candidates.similarity
        self._users = np.arange(len(candidates))
        self._dpp = kind == "dpp"
        shape = candidates.rows.shape
        self.cost: Float64 = np.zeros(shape)
        if self._dpp:
            self._factor = np.empty((slots, *shape))
            self._unexplained = np.ones(shape)
            self._taken = 0

    def take(self, chosen: Int64) -> None:
        near = self._similarity[self._users, chosen]
        if not self._dpp:
            np.maximum(self.cost, near, out=self.cost)
            return
        row = SAME_TOPICS * near.astype(np.float64)
        row[self._users, chosen] = 1.0
        before = self._factor[: self._taken]
        own = before[:, self._users, chosen]
        row -= np.einsum("ku,kuw->uw", own, before)
        row /= np.sqrt(self._unexplained[self._users, chosen])[:, None]
        self._factor[self._taken] = row
        self._taken += 1
        self._unexplained -= row * row
        np.maximum(self._unexplained, 1.0 - SAME_TOPICS, out=self._unexplained)
        self.cost = -np.log(self._unexplained)


class _Caps:
    """Whom the caps on topics and authors keep out ``[users, width]``."""

    def __init__(self, candidates: Candidates, rules: SlateRules) -> None:
        self._topics, self._authors = candidates.topics, candidates.authors
        self._topic_cap, self._author_cap = rules.max_per_topic, rules.max_per_author
        self._users = np.arange(len(candidates))
        most = int(self._topics.max(initial=NO_TOPIC)) + 1
        self._shown = np.zeros((len(candidates), max(most, 1)), np.int64)
        self._by_author: list[Int64] = []
        self.needed: npt.NDArray[np.int8] = np.zeros(candidates.rows.shape, np.int8)
        self.bind = False
        """Whether anybody is kept out."""

    def take(self, chosen: Int64) -> None:
        own = self._topics[self._users, chosen]
        for topic in own.T if self._topic_cap is not None else ():
            has = np.flatnonzero(topic != NO_TOPIC)
            self._shown[has, topic[has]] += 1
            full = has[self._shown[has, topic[has]] == self._topic_cap]
            if len(full):
                over = (self._topics[full] == topic[full, None, None]).any(axis=2)
                self._need(full, over, TOPIC_PLACE)
        if self._author_cap is not None:
            author = self._authors[self._users, chosen]
            self._by_author.append(author)
            times = (np.stack(self._by_author) == author).sum(axis=0)
            full = np.flatnonzero((times == self._author_cap) & (author != 0))
            if len(full):
                over = self._authors[full] == author[full, None]
                self._need(full, over, AUTHOR_PLACE)

    def _need(self, users: Int64, over: Bool, place: int) -> None:
        self.bind = True
        self.needed[users] = np.maximum(self.needed[users], over * np.int8(place))


def fill(
    candidates: Candidates, utility: Float64, paid: Bool, rules: SlateRules, slots: int
) -> Int64:
    """Positions of the chosen candidates ``[users, slots]``, -1 where there was none left.

    Args:
        candidates: of all users.
        utility: ``[users, width]``.
        paid: whether a slot for the candidate is sponsored ``[users, width]``.
        rules: of the surface.
        slots: of each page.
    """
    users = np.arange(len(candidates))
    strength = rules.diversity_strength
    worth = (1.0 - strength) * utility
    left = candidates.exists.copy()
    likeness = _Likeness(candidates, rules.diversity, slots)
    caps = _Caps(candidates, rules)
    interests = None
    if rules.calibration_weight > 0 and candidates.interest_topics is not None:
        interests = BatchInterestMatch(candidates.interest_topics, candidates.interest_places)
    quota = [int(rules.sponsored_share * m + 1e-9) for m in range(1, slots + 1)]
    n_paid = np.zeros(len(candidates), np.int64)
    last_paid = np.full(len(candidates), -(rules.sponsored_spacing + 1), np.int64)
    goes_on = np.ones(len(candidates), bool)
    chosen = np.full((len(candidates), slots), -1, np.int64)
    for slot in range(slots):
        gain = worth - strength * likeness.cost if strength else worth.copy()
        if interests is not None:
            gain -= rules.calibration_weight * interests.cost()
        may_pay = (n_paid < quota[slot]) & (slot - last_paid > rules.sponsored_spacing)
        allowed = left & (may_pay[:, None] | ~paid)
        if caps.bind:
            needed = np.where(allowed, caps.needed, _NOBODY)
            gain[needed != needed.min(axis=1, keepdims=True)] = -np.inf
        gain[~allowed] = -np.inf
        best = gain.argmax(axis=1)
        # A page ends at the first slot that nobody may have.
        goes_on &= allowed[users, best]
        found = goes_on
        chosen[found, slot] = best[found]
        left[users, best] &= ~found
        sponsored = paid[users, best] & found
        n_paid += sponsored
        last_paid[sponsored] = slot
        if slot + 1 < slots:
            if strength:
                likeness.take(best)
            caps.take(best)
            if interests is not None:
                interests.take(best)
    return chosen
