"""Stage 6: fills the slots of a page, greedily, under the surface's rules.

A slate's value is the sum over its items of utility, less what likeness to the items selected
before costs, less how far its topics are from the user's interests. Each slot goes to the
candidate that adds most, or where the rules ask for chance, to one drawn from those that add
nearly as much. A slot depends on earlier slots and on pins alone, never on how many slots are
asked for, so that pages are cuts of one slate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.orchestrator.slate.candidates import Float64, Int32, SlateCandidates
from recmesh.orchestrator.slate.filling import Filling
from recmesh.orchestrator.slate.rules import SlateRules


@dataclass(frozen=True, slots=True)
class Slate:
    """A filled page."""

    chosen: Int32
    """Positions among the candidates, first slot first ``[≤ slots]``."""
    relaxed: tuple[str, ...]
    """Rules that it breaks, in the order in which rules may give way."""
    value: float
    """Utility less costs, of the chosen and of pins at later slots."""
    propensity: Float64
    """Probability of each slot's candidate, given the slots above ``[len(chosen)]``, in (0, 1]."""
    chance_loss: Float64
    """What each slot adds less than the best that it could have had ``[len(chosen)]``, ≥ 0."""

    @classmethod
    def of(cls, filling: Filling, chosen: Sequence[int]) -> Slate:
        """What filling the slots came to."""
        interests, weight = filling.interests, filling.rules.calibration_weight
        return cls(
            np.array(chosen, np.int32),
            filling.relaxed(),
            filling.value - (0.0 if interests is None else weight * interests.divergence),
            np.array(filling.propensity[: len(chosen)]),
            np.array(filling.chance_loss[: len(chosen)]),
        )


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
    return Slate.of(filling, filling.fill(filling.pin(), slots))
