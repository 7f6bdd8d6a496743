"""A slate with its certificate: how much better the best one may be.

Pages are chosen without it: it costs about as much again as the slate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recmesh.orchestrator.slate.bound import Remaining, UpperBound
from recmesh.orchestrator.slate.candidates import Float64, SlateCandidates
from recmesh.orchestrator.slate.filling import Filling
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import Slate

_TANGENTS = 3
"""Steps of Frank & Wolfe (1956) towards the bound that the best tangent gives."""


@dataclass(frozen=True, slots=True)
class Certified:
    """A slate, and what none can surpass."""

    slate: Slate
    bound: float
    """No slate of as many slots, with the same pins, that breaks no other rules is worth more."""

    @property
    def gap(self) -> float:
        """How much better the best slate may be, ≥ 0."""
        return self.bound - self.slate.value


def certified(
    candidates: SlateCandidates, rules: SlateRules, slots: int, draws: Float64 | None = None
) -> Certified:
    """The slate that :func:`~recmesh.orchestrator.slate.select.select` chooses, with its bound.

    Args:
        candidates: of one request.
        rules: of the surface.
        slots: to fill, at least 0.
        draws: as for the slate.
    """
    filling = Filling(candidates, rules, slots, draws)
    eligible = filling.left.copy()
    pins = filling.pin()
    pinned = np.zeros(len(candidates), bool)
    pinned[list(pins.values())] = True
    pins_value = filling.value
    room = {place: cap.room.copy() for place, cap in filling.caps.topic.items()}
    slate = Slate.of(filling, filling.fill(pins, slots))

    strength, weight = rules.diversity_strength, rules.calibration_weight
    kept = [left for place, left in room.items() if place not in filling.broken]
    paid = filling.sponsored
    shown_pins = slate.chosen[pinned[slate.chosen]]
    rest = Remaining(
        eligible=eligible & ~pinned,
        pinned=pinned,
        sponsored=paid.sponsored,
        slots=len(slate.chosen) - len(shown_pins),
        most_sponsored=paid.most(len(slate.chosen)) - int(paid.sponsored[shown_pins].sum()),
        topic_room=np.minimum.reduce(kept) if kept else filling.topics.unlimited,
    )
    bounds = UpperBound(
        filling.topics,
        candidates.topics,
        slate.chosen,
        rest,
        lambda similarity, others: strength * filling.diversity.least_cost(similarity, others),
    )
    interests = filling.interests
    if interests is None:
        bound = pins_value + bounds.added(filling.worth)[0]
    else:
        bound, at = np.inf, interests.between()
        pins_at = np.flatnonzero(pinned)
        for step in range(_TANGENTS):
            constant, slope = interests.least_cost(at)
            added, by = bounds.added(filling.worth - weight * slope)
            pins_cost = weight * (constant + float(slope[pinned].sum()))
            bound = min(bound, pins_value - pins_cost + added)
            at += 1 / (step + 3) * (interests.of(np.concatenate([by, pins_at])) - at)
    # A slate that reaches its bound may lie above it by a rounding error.
    return Certified(slate, max(slate.value, bound))
