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
    TopicSets,
)
from recmesh.orchestrator.slate.caps import SoftCaps
from recmesh.orchestrator.slate.chance import drawn, probabilities
from recmesh.orchestrator.slate.dpp import Dpp
from recmesh.orchestrator.slate.interest_match import InterestMatch
from recmesh.orchestrator.slate.mmr import Mmr
from recmesh.orchestrator.slate.rules import PINS, RELAXATION_ORDER, SlateRules
from recmesh.orchestrator.slate.sponsored_slots import SponsoredSlots

_DIVERSITY: dict[str, type[Mmr] | type[Dpp]] = {"mmr": Mmr, "dpp": Dpp}
_EXPLORATION = RELAXATION_ORDER.index("exploration_slots") + 1
_TANGENTS = 3
"""Steps of Frank & Wolfe (1956) towards the bound that the best tangent gives."""
_NOBODY = np.iinfo(np.int8).max


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


class _Filling:
    """A slate in the making."""

    def __init__(
        self, candidates: SlateCandidates, rules: SlateRules, slots: int, draws: Float64 | None
    ) -> None:
        self.draws = draws
        self.propensity: list[float] = []
        self.chance_loss: list[float] = []
        pin_slots = candidates.pin_slot
        horizon = slots if pin_slots is None else max(slots, int(pin_slots.max(initial=0)))
        self.candidates, self.rules = candidates, rules
        self.topics = TopicSets(candidates.topics)
        self.left = candidates.may_be_shown
        self.caps = SoftCaps(candidates, self.topics, rules)
        self.sponsored = SponsoredSlots(candidates, rules, horizon)
        self.worth: Float64 = (1.0 - rules.diversity_strength) * candidates.boosted
        self.diversity = _DIVERSITY[rules.diversity](self.topics, min(len(candidates), horizon))
        self.interests = None
        if candidates.interests is not None and rules.calibration_weight > 0:
            self.interests = InterestMatch(candidates.interests, self.topics)
        self.value = 0.0
        """Of the selected, but for their distance from the user's interests."""
        self.broken: set[int] = set()
        """Places in the order of relaxation."""
        self.pins_move = False

    def take(self, i: int, slot: int) -> None:
        """Selects candidate ``i``."""
        strength = self.rules.diversity_strength
        self.value += float(self.worth[i] - strength * self.diversity.cost[i])
        self.left[i] = False
        self.broken.update(self.caps.broken_by(i))
        self.caps.take(i)
        self.sponsored.take(i, slot)
        if strength > 0:
            self.diversity.take(i)
        if self.interests is not None:
            self.interests.take(i)

    def _explores(self, i: int) -> bool:
        return self.candidates.explores is not None and bool(self.candidates.explores[i])

    def gain(self, slot: int) -> Float64 | None:
        """What each adds in this slot ``[n]``; -inf but for those who need least relaxed.

        None: nobody may have it.
        """
        needed = self.caps.needed
        if slot in self.rules.exploration_slots:
            explores = self.candidates.explores
            others = np.ones(len(needed), bool) if explores is None else ~explores
            needed = np.maximum(needed, others * np.int8(_EXPLORATION))
        allowed = self.left
        kept_out = self.sponsored.kept_out(slot)
        if kept_out is not None:
            allowed = allowed & ~kept_out
        needed = np.where(allowed, needed, _NOBODY)
        least = needed.min(initial=_NOBODY)
        if least == _NOBODY:
            return None
        gain = self.worth - self.rules.diversity_strength * self.diversity.cost
        if self.interests is not None:
            gain -= self.rules.calibration_weight * self.interests.cost()
        return np.where(needed == least, gain, -np.inf)

    def best(self, slot: int) -> int | None:
        """Who is to have this slot; None: nobody may."""
        gain = self.gain(slot)
        if gain is None:
            return None
        rules = self.rules
        if self.draws is None or rules.temperature <= 0:
            return int(gain.argmax())
        probability = probabilities(gain, rules.temperature, rules.most_chance_loss)
        i = drawn(probability, float(self.draws[slot - 1]))
        self.propensity[-1] = float(probability[i])
        self.chance_loss[-1] = float(gain.max() - gain[i])
        return i

    def pin(self) -> dict[int, int]:
        """Selects the pinned before all others, wherever they will stand; by slot.

        A candidate whose slot has been given to another, or may not be sponsored, is pinned
        nowhere.
        """
        pin_slots = self.candidates.pin_slot
        if pin_slots is None:
            return {}
        pinned = np.flatnonzero((pin_slots > 0) & self.left)
        by_slot: dict[int, int] = {}
        for i in pinned[np.argsort(pin_slots[pinned], kind="stable")].tolist():
            slot = int(pin_slots[i])
            if slot in by_slot or not self.sponsored.may_have(i, slot):
                self.pins_move = True
            else:
                by_slot[slot] = i
                self.take(i, slot)
        return by_slot

    def moved_up(self, pins: dict[int, int], slot: int) -> int | None:
        """The next pin that may have this slot, before its own; None: none may."""
        for later in sorted(pins):
            i = pins.pop(later)
            self.pins_move = True
            if self.sponsored.move(i, later, slot):
                return i
        return None

    def fill(self, pins: dict[int, int], slots: int) -> list[int]:
        """Selects for every slot; takes the pins that get one out of ``pins``."""
        chosen: list[int] = []
        while len(chosen) < slots:
            slot = len(chosen) + 1
            self.propensity.append(1.0)
            self.chance_loss.append(0.0)
            i = pins.pop(slot, None)
            if i is None:
                i = self.best(slot)
                if i is not None:
                    self.take(i, slot)
                else:
                    i = self.moved_up(pins, slot)
            if i is None:
                break
            if slot in self.rules.exploration_slots and not self._explores(i):
                self.broken.add(_EXPLORATION)
            chosen.append(i)
        return chosen

    def relaxed(self) -> tuple[str, ...]:
        """Names of the rules that are broken."""
        names = tuple(RELAXATION_ORDER[place - 1] for place in sorted(self.broken))
        return (*names, PINS) if self.pins_move else names


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
    filling = _Filling(candidates, rules, slots, draws)
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


def propensities(candidates: SlateCandidates, rules: SlateRules, chosen: Int32) -> Float64:
    """With which the rules would have filled each of a slate's slots, given those above.

    Args:
        candidates: of one request.
        rules: under which the slate is judged; they need not be those that filled it.
        chosen: the slate, first slot first ``[slots]``.

    Returns:
        Probabilities ``[slots]``: 1 for pins at their slots. From a slot on that these rules
        never fill so, all are 0.
    """
    filling = _Filling(candidates, rules, len(chosen), None)
    pins = filling.pin()
    found = np.zeros(len(chosen))
    for place, i in enumerate(chosen.tolist()):
        slot = place + 1
        pinned = pins.pop(slot, None)
        if pinned is not None:
            if pinned != i:
                break
            found[place] = 1.0
            continue
        gain = filling.gain(slot)
        if gain is None:
            moved = filling.moved_up(pins, slot)
            if moved != i:
                break
            found[place] = 1.0
            continue
        found[place] = probabilities(gain, rules.temperature, rules.most_chance_loss)[i]
        if not found[place]:
            break
        filling.take(i, slot)
    return found
