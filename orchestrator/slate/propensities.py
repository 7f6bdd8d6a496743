"""How likely rules were to fill a slate as it is."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Float64, Int32, SlateCandidates
from recmesh.orchestrator.slate.chance import probabilities
from recmesh.orchestrator.slate.filling import Filling
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
        if step.standing is None:
            chance = float(step.forced == step.chosen)
        else:
            gain = step.standing.open_gain
            chance = float(
                probabilities(gain, rules.temperature, rules.most_chance_loss)[step.chosen]
            )
        if not chance:
            break
        found[step.slot - 1] = chance
    return found
