"""Whole slates that a policy showed, and how likely they were under it and under a new one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SlateProbabilities:
    """One policy's probabilities of the slates that were logged; ``[n, slots]`` each."""

    given_above: Float64
    """Of each slot's item, given the items above it: their product is the slate's."""
    in_slot: Float64
    """Of each slot's item in that slot, whatever is above it."""


@dataclass(frozen=True)
class LoggedSlates:
    """One row for every slate.

    Raises:
        DataError: shapes differ, a probability is outside [0, 1], or a logged one is 0.
    """

    reward: Float64
    """Of every slot ``[n, slots]``; the slate's is their sum."""
    logging: SlateProbabilities
    new: SlateProbabilities
    unit: Int64
    """Whose slate it was ``[n]``, from 0: slates of one unit may depend on each other."""

    def __post_init__(self) -> None:
        if self.reward.ndim != 2 or self.reward.size == 0 or len(self.unit) != len(self.reward):
            raise DataError(
                f"rewards of shape {self.reward.shape} and {len(self.unit)} units; "
                f"one row of slots for each unit is needed"
            )
        if not np.isfinite(self.reward).all():
            raise DataError("a reward is not finite")
        for whose, policy in (("logging", self.logging), ("new", self.new)):
            for name in ("given_above", "in_slot"):
                values = getattr(policy, name)
                if values.shape != self.reward.shape:
                    raise DataError(
                        f"{whose}.{name} has shape {values.shape}, rewards {self.reward.shape}"
                    )
                if not ((values >= 0) & (values <= 1)).all():
                    raise DataError(f"{whose}.{name} holds a probability outside [0, 1]")
                if whose == "logging" and (values == 0).any():
                    raise DataError(f"logging.{name} is 0 for an item that was logged")
