"""The best slate there is, by trying them all: what greedy ones are held against.

Nothing is shared with the solver but the rules and the columns: likeness, divergence, caps and
sponsored slots are computed anew, from their definitions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.dpp import SAME_TOPICS
from recmesh.orchestrator.slate.interest_match import SMOOTHING
from recmesh.orchestrator.slate.rules import SlateRules


@dataclass(frozen=True)
class SlateProblem:
    """What slates are compared on. For a dozen candidates and a handful of slots."""

    candidates: SlateCandidates
    rules: SlateRules
    pins: Mapping[int, int]
    """Candidates by the slot that is theirs; valued before all others, in this order."""

    def topics(self, i: int) -> set[int]:
        """Topic bits of candidate ``i``."""
        words = self.candidates.topics[i].tolist()
        return {64 * w + t for w, word in enumerate(words) for t in range(64) if word >> t & 1}

    def similarity(self, i: int, j: int) -> float:
        """Jaccard's index of the topics."""
        if i == j:
            return 1.0
        either = self.topics(i) | self.topics(j)
        return len(self.topics(i) & self.topics(j)) / len(either) if either else 0.0

    def worth(self, i: int) -> float:
        """What candidate ``i`` adds before costs."""
        boost = self.candidates.boost
        utility = float(self.candidates.utility[i])
        utility += 0.0 if boost is None else float(boost[i])
        return (1 - self.rules.diversity_strength) * utility

    def value(self, slots: Sequence[int]) -> float:
        """Of a slate with candidates in these slots, by the definitions of the papers."""
        pinned = list(self.pins.values())
        order = [*pinned, *(i for i in slots if i not in pinned)]
        if not order:
            return 0.0
        likeness = np.array([[self.similarity(i, j) for j in order] for i in order])
        if self.rules.diversity == "mmr":
            cost = sum(float(likeness[k, :k].max(initial=0.0)) for k in range(len(order)))
        else:
            kernel = SAME_TOPICS * likeness
            np.fill_diagonal(kernel, 1.0)
            cost = -float(np.linalg.slogdet(kernel)[1])
        total = float(sum(map(self.worth, order))) - self.rules.diversity_strength * cost
        return total - self.rules.calibration_weight * len(order) * self.divergence(order)

    def divergence(self, shown: Sequence[int]) -> float:
        """KL divergence of the shown items' topics from the interests (Steck 2018)."""
        interests = self.candidates.interests
        if interests is None:
            return 0.0
        offered = set[int]().union(*map(self.topics, range(len(self.candidates))))
        wanted = {t: float(interests[t]) for t in offered if interests[t] > 0}
        total = sum(wanted.values())
        result = 0.0
        for topic, interest in wanted.items():
            p = interest / total
            q = sum(1 / len(self.topics(i)) for i in shown if topic in self.topics(i)) / len(shown)
            result += p * np.log(p / ((1 - SMOOTHING) * q + SMOOTHING * p))
        return float(result)

    def sponsored_well(self, slots: Sequence[int]) -> bool:
        """Whether share, spacing and sponsors' caps hold, with the pins at later slots."""
        columns, rules = self.candidates, self.rules
        if columns.sponsored is None:
            return True
        later = {s: i for s, i in self.pins.items() if s > len(slots) and i not in slots}
        filled = dict(enumerate(slots, start=1)) | later
        paid = {slot: filled[slot] for slot in sorted(filled) if columns.sponsored[filled[slot]]}
        stands = list(paid)
        if any(n > rules.sponsored_share * slot + 1e-9 for n, slot in enumerate(stands, start=1)):
            return False
        if any(b - a <= rules.sponsored_spacing for a, b in pairwise(stands)):
            return False
        if columns.campaign is not None and columns.campaign_room is not None:
            campaigns = columns.campaign[list(paid.values())].tolist()
            for i, campaign in zip(paid.values(), campaigns, strict=True):
                if campaign and campaigns.count(campaign) > columns.campaign_room[i]:
                    return False
        if columns.sponsor is None:
            return True
        codes = columns.sponsor[list(paid.values())].tolist()
        for i, code in zip(paid.values(), codes, strict=True):
            count = codes.count(code) if code else 0
            earlier = 0 if columns.sponsor_shown is None else int(columns.sponsor_shown[i])
            if rules.max_per_sponsor is not None and count > rules.max_per_sponsor:
                return False
            recently = rules.max_per_sponsor_recently
            if code and recently is not None and count + earlier > recently:
                return False
        return True

    def broken(self, slots: Sequence[int]) -> set[str]:
        """Soft rules that the slate breaks."""
        columns, rules = self.candidates, self.rules
        shown = [*slots, *(i for i in self.pins.values() if i not in slots)]
        names = set()
        for slot, i in enumerate(slots, start=1):
            explores = columns.explores is not None and bool(columns.explores[i])
            if slot in rules.exploration_slots and not explores:
                names.add("exploration_slots")
        for topic in set[int]().union(*map(self.topics, shown)):
            count = sum(topic in self.topics(i) for i in shown)
            earlier = 0 if columns.topic_shown is None else int(columns.topic_shown[topic])
            if rules.max_per_topic is not None and count > rules.max_per_topic:
                names.add("max_per_topic")
            recently = rules.max_per_topic_recently
            if recently is not None and count + earlier > recently:
                names.add("max_per_topic_recently")
        if columns.author is None:
            return names
        authors = columns.author[shown].tolist()
        for i, author in zip(shown, authors, strict=True):
            count = authors.count(author) if author else 0
            earlier = 0 if columns.author_shown is None else int(columns.author_shown[i])
            if rules.max_per_author is not None and count > rules.max_per_author:
                names.add("max_per_author")
            recently = rules.max_per_author_recently
            if author and recently is not None and count + earlier > recently:
                names.add("max_per_author_recently")
        return names


def best_slate(
    problem: SlateProblem, length: int, may_break: Collection[str]
) -> tuple[float, tuple[int, ...]]:
    """The most valuable slate of a length that breaks no soft rules but these, and its value.

    Slates that cannot become better than the best so far are not tried: nothing that is added
    is worth more than its utility. Value -inf: there is none.
    """
    eligible = np.flatnonzero(problem.candidates.may_be_shown).tolist()
    pinned = set(problem.pins.values())
    free = sorted((i for i in eligible if i not in pinned), key=problem.worth, reverse=True)
    worth = {i: problem.worth(i) for i in eligible}
    pins_worth = sum(worth[i] for i in pinned)
    free_slots = [slot for slot in range(1, length + 1) if slot not in problem.pins]
    best: tuple[float, tuple[int, ...]] = (-np.inf, ())

    def try_all(slots: tuple[int, ...], so_far: float) -> None:
        nonlocal best
        slot = len(slots) + 1
        if not problem.sponsored_well(slots):
            return
        if slot > length:
            if problem.broken(slots) <= set(may_break):
                value = problem.value(slots)
                if value > best[0]:
                    best = value, slots
            return
        if slot in problem.pins:
            try_all((*slots, problem.pins[slot]), so_far)
            return
        left = [i for i in free if i not in slots]
        to_fill = sum(later >= slot for later in free_slots)
        if len(left) < to_fill or so_far + sum(worth[i] for i in left[:to_fill]) <= best[0]:
            return
        for i in left:
            try_all((*slots, i), so_far + worth[i])

    try_all((), pins_worth)
    return best
