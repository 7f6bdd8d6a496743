"""A slate in the making: what each candidate would add to the slots filled so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.slate.candidates import Float64, SlateCandidates, TopicSets
from recmesh.orchestrator.slate.caps import SoftCaps
from recmesh.orchestrator.slate.chance import drawn, probabilities
from recmesh.orchestrator.slate.dpp import Dpp
from recmesh.orchestrator.slate.interest_match import InterestMatch
from recmesh.orchestrator.slate.mmr import Mmr
from recmesh.orchestrator.slate.rules import PINS, RELAXATION_ORDER, SlateRules
from recmesh.orchestrator.slate.sponsored_slots import SponsoredSlots

_DIVERSITY: dict[str, type[Mmr] | type[Dpp]] = {"mmr": Mmr, "dpp": Dpp}
_EXPLORATION = RELAXATION_ORDER.index("exploration_slots") + 1
_NOBODY = np.iinfo(np.int8).max


@dataclass(frozen=True, slots=True)
class Standing:
    """What everybody would add in one slot."""

    gain: Float64
    """``[n]``, whether they may have it or not."""
    needed: npt.NDArray[np.int8]
    """Last rule, by its place in the order of relaxation, that each breaks there ``[n]``; 0: none;
    the largest int8: they may not have it."""

    @property
    def least(self) -> int:
        """The smallest of ``needed``."""
        return int(self.needed.min(initial=_NOBODY))

    @property
    def nobody(self) -> bool:
        """Whether nobody may have the slot."""
        return self.least == _NOBODY

    def may_have(self, i: int) -> bool:
        """Whether a candidate may have it, some rule relaxed or none."""
        return bool(self.needed[i] != _NOBODY)

    @property
    def open_gain(self) -> Float64:
        """Gain of those who break least ``[n]``; -inf of all others."""
        return np.where(self.needed == self.least, self.gain, -np.inf)


@dataclass(frozen=True, slots=True)
class Step:
    """One slot of a slate that is filled anew."""

    slot: int
    """From 1."""
    chosen: int
    """Who is to have it."""
    standing: Standing | None
    """None: it is not open."""
    forced: int | None
    """A pin that has it; None: there is a choice, or nobody to have it."""


class Filling:
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

    def standing(self, slot: int) -> Standing:
        """Who may have this slot, and what they would add. Valid until the next is selected."""
        needed = self.caps.needed
        if slot in self.rules.exploration_slots:
            explores = self.candidates.explores
            others = np.ones(len(needed), bool) if explores is None else ~explores
            needed = np.maximum(needed, others * np.int8(_EXPLORATION))
        allowed = self.left
        kept_out = self.sponsored.kept_out(slot)
        if kept_out is not None:
            allowed = allowed & ~kept_out
        gain = self.worth - self.rules.diversity_strength * self.diversity.cost
        if self.interests is not None:
            gain -= self.rules.calibration_weight * self.interests.cost()
        return Standing(gain, np.where(allowed, needed, _NOBODY))

    def best(self, slot: int) -> int | None:
        """Who is to have this slot; None: nobody may."""
        standing = self.standing(slot)
        if standing.nobody:
            return None
        gain, rules = standing.open_gain, self.rules
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

    def walk(self, chosen: Sequence[int]) -> Iterator[Step]:
        """Fills the slots with these, and says before each who could have had it.

        Use it instead of :meth:`pin` and :meth:`fill`.
        """
        return self.steps(len(chosen), lambda slot, _: chosen[slot - 1])

    def steps(self, slots: int, choose: Callable[[int, Standing], int]) -> Iterator[Step]:
        """Fills slots with whom ``choose`` says, and says before each who could have had it.

        It is asked of every slot, and not heeded where a pin has it or nobody may.
        """
        pins = self.pin()
        for slot in range(1, slots + 1):
            forced = pins.pop(slot, None)
            standing = self.standing(slot)
            if forced is None and standing.nobody:
                forced = self.moved_up(pins, slot)
            is_open = forced is None and not standing.nobody
            i = choose(slot, standing)
            yield Step(slot, i, standing if is_open else None, forced)
            if is_open:
                self.take(i, slot)

    def relaxed(self) -> tuple[str, ...]:
        """Names of the rules that are broken."""
        names = tuple(RELAXATION_ORDER[place - 1] for place in sorted(self.broken))
        return (*names, PINS) if self.pins_move else names
