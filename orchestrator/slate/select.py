"""Stage 6: fills the slots of a page, greedily, under the surface's rules.

A slate's value is the sum over its items of utility, less what likeness to the items selected
before costs, less how far its topics are from the user's interests. Each slot goes to the
candidate that adds most, or where the rules ask for chance, to one drawn from those that add
nearly as much. A slot depends on earlier slots and on pins alone, never on how many slots are
asked for, so that pages are cuts of one slate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recmesh.orchestrator.slate.bound import Remaining, UpperBound
from recmesh.orchestrator.slate.candidates import (
    Float64,
    Int32,
    SlateCandidates,
)
from recmesh.orchestrator.slate.filling import Filling
from recmesh.orchestrator.slate.rules import SlateRules

_TANGENTS = 3
"""Steps of Frank & Wolfe (1956) towards the bound that the best tangent gives."""


@dataclass(frozen=True, slots=True)
class Slate:
    """A filled page."""

    chosen: Int32
    """Positions among the candidates, first slot first ``[≤ slots]``."""
    relaxed: tuple[str, ...]
    """Rules that it breaks, in the order in which rules may give way."""
    value: float
    """Utility less costs, of the chosen and of pins at later slots."""
    bound: float
    """No slate of as many slots, with the same pins, that breaks no other rules is worth more."""
    propensity: Float64
    """Probability of each slot's candidate, given the slots above ``[len(chosen)]``, in (0, 1]."""
    chance_loss: Float64
    """What each slot adds less than the best that it could have had ``[len(chosen)]``, ≥ 0."""

    @property
    def gap(self) -> float:
        """How much better the best slate may be, ≥ 0."""
        return self.bound - self.value


def select(
    candidates: SlateCandidates, rules: SlateRules, slots: int, draws: Float64 | None = None
) -> Slate:
    """Chooses and orders the slots.

    Ties go to the earlier candidate. Fewer slots than asked for are filled when candidates
    run out or hard rules keep them all out; pins behind the last slot then move up.

    Args:
        candidates: of one request.
        rules: of the surface.
        slots: to fill, at least 0.
        draws: a number in [0, 1) for each slot, by which chance decides ``[≥ slots]``; None:
            there is no chance.
    """
    filling = Filling(candidates, rules, slots, draws)
    eligible = filling.left.copy()
    pins = filling.pin()
    pinned = np.zeros(len(candidates), bool)
    pinned[list(pins.values())] = True
    pins_value = filling.value
    room = {place: cap.room.copy() for place, cap in filling.caps.topic.items()}
    chosen = np.array(filling.fill(pins, slots), np.int32)

    strength, weight = rules.diversity_strength, rules.calibration_weight
    interests = filling.interests
    value = filling.value - (0.0 if interests is None else weight * interests.divergence)
    kept = [left for place, left in room.items() if place not in filling.broken]
    paid = filling.sponsored
    shown_pins = chosen[pinned[chosen]]
    rest = Remaining(
        eligible=eligible & ~pinned,
        pinned=pinned,
        sponsored=paid.sponsored,
        slots=len(chosen) - len(shown_pins),
        most_sponsored=paid.most(len(chosen)) - int(paid.sponsored[shown_pins].sum()),
        topic_room=np.minimum.reduce(kept) if kept else filling.topics.unlimited,
    )
    bounds = UpperBound(
        filling.topics,
        candidates.topics,
        chosen,
        rest,
        lambda similarity, others: strength * filling.diversity.least_cost(similarity, others),
    )
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
    return Slate(
        chosen,
        filling.relaxed(),
        value,
        max(value, bound),
        np.array(filling.propensity[: len(chosen)]),
        np.array(filling.chance_loss[: len(chosen)]),
    )
