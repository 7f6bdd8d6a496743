"""How likely rules were to fill a slate as it is."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Float64, Int32, SlateCandidates
from recmesh.orchestrator.slate.chance import drawn, probabilities
from recmesh.orchestrator.slate.filling import Filling, Standing, Step
from recmesh.orchestrator.slate.rules import SlateRules


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
    filling = Filling(candidates, rules, len(chosen), None)
    found = np.zeros(len(chosen))
    for step in filling.walk(chosen.tolist()):
        chance = _chance(step, rules, step.chosen)
        if not chance:
            break
        found[step.slot - 1] = chance
    return found


def slot_propensities(
    candidates: SlateCandidates, rules: SlateRules, chosen: Int32, draws: Float64
) -> Float64:
    """With which the rules would have put each of a slate's items in its slot, whatever is above.

    The mean over slates that are drawn, of the exact probability given the slots above: its error
    falls with their number, and much faster than that of counting them.

    Args:
        candidates: of one request.
        rules: under which the slate is judged.
        chosen: the slate, first slot first ``[slots]``.
        draws: in [0, 1), each row draws one slate ``[slates, slots]``.

    Returns:
        Probabilities ``[slots]``.
    """
    total = np.zeros(len(chosen))
    for row in draws:

        def choose(slot: int, standing: Standing, row: Float64 = row) -> int:
            if standing.nobody:
                return -1
            gain = standing.open_gain
            return drawn(
                probabilities(gain, rules.temperature, rules.most_chance_loss),
                float(row[slot - 1]),
            )

        filling = Filling(candidates, rules, len(chosen), None)
        for step in filling.steps(len(chosen), choose):
            total[step.slot - 1] += _chance(step, rules, int(chosen[step.slot - 1]))
    return total / len(draws)


def _chance(step: Step, rules: SlateRules, i: int) -> float:
    """With which candidate ``i`` gets the step's slot."""
    if step.standing is None:
        return float(step.forced == i)
    gain = step.standing.open_gain
    return float(probabilities(gain, rules.temperature, rules.most_chance_loss)[i])
