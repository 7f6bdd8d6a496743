"""Why a candidate did not get a slot of a slate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recmesh.orchestrator.slate.candidates import Int32, SlateCandidates
from recmesh.orchestrator.slate.chance import probabilities
from recmesh.orchestrator.slate.filling import Filling, Step
from recmesh.orchestrator.slate.rules import RELAXATION_ORDER, SlateRules


@dataclass(frozen=True, slots=True)
class WhyNot:
    """The rule that kept a candidate away, and the value it was judged by."""

    rule: str
    value: str


def why_not(candidates: SlateCandidates, rules: SlateRules, chosen: Int32, i: int) -> WhyNot:
    """Why candidate ``i`` has none of the slots.

    A rule is to blame that kept it from a slot where it would have added more than who has it; of
    several the first. Otherwise it adds too little, and the least that it lacks is told.

    Args:
        candidates: of one request.
        rules: of the surface.
        chosen: the slate, first slot first, without ``i``.
        i: a candidate.
    """
    if not np.isfinite(candidates.utility[i]):
        return WhyNot("utility", "an objective has no value for it")
    if candidates.blocked is not None and candidates.blocked[i]:
        return WhyNot("blocks", "the policy blocks it")
    filling = Filling(candidates, rules, len(chosen), None)
    to_blame: WhyNot | None = None
    nearest: tuple[float, str] | None = None
    for step in filling.walk(chosen.tolist()):
        standing = step.standing
        if standing is None:
            continue
        lacks = float(standing.gain[step.chosen] - standing.gain[i])
        rule = _kept_out(filling, step, rules, i)
        if rule is not None and lacks < 0:
            to_blame = to_blame or rule
        elif rule is None and lacks < 0:
            return _by_chance(step, rules, i)
        elif rule is None and (nearest is None or lacks < nearest[0]):
            nearest = (
                lacks,
                (
                    f"would add {standing.gain[i]:.4f} in slot {step.slot}, "
                    f"where the item shown adds {standing.gain[step.chosen]:.4f}"
                ),
            )
    if to_blame is not None:
        return to_blame
    if nearest is None:
        return WhyNot("slots", f"all {len(chosen)} are pinned or closed to it")
    return WhyNot("value", nearest[1])


def _by_chance(step: Step, rules: SlateRules, i: int) -> WhyNot:
    """It could have had the slot, and would have added more."""
    assert step.standing is not None
    if rules.temperature > 0:
        gain = step.standing.open_gain
        chance = probabilities(gain, rules.temperature, rules.most_chance_loss)[i]
        return WhyNot("temperature", f"had slot {step.slot} with probability {chance:.3f}")
    return WhyNot("value", f"equal to the item in slot {step.slot}, which came first")


def _kept_out(filling: Filling, step: Step, rules: SlateRules, i: int) -> WhyNot | None:
    """The rule by which candidate ``i`` could not have the step's slot; None: it could."""
    standing = step.standing
    assert standing is not None
    if not standing.may_have(i):
        name = filling.sponsored.keeps_out(i, step.slot)
        if not name:
            # Pins are taken before all others.
            pin_slot = filling.candidates.pin_slot
            at = 0 if pin_slot is None else int(pin_slot[i])
            return WhyNot("pins", f"it is pinned to slot {at}, which is not on the page")
        cap = getattr(rules, name, None)
        said = f"{name} is {cap}" if cap is not None else "its budget or frequency cap is used up"
        return WhyNot(name, f"{said}, in slot {step.slot}")
    if standing.needed[i] > standing.least:
        name = RELAXATION_ORDER[int(standing.needed[i]) - 1]
        if name == "exploration_slots":
            return WhyNot(name, f"slot {step.slot} is reserved for items that explore")
        return WhyNot(name, f"{name} is {getattr(rules, name)}, reached before slot {step.slot}")
    return None
