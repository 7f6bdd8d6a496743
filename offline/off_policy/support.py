"""Whether a log says enough about a new policy to estimate its value at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]

FEWEST_EFFECTIVE_ROWS = 100.0
"""Refused below it."""
FEWEST_EFFECTIVE_REWARDS = 20.0
"""Refused below it: rewards are mostly 0, and rows without one tell little."""
LARGEST_WEIGHT_SHARE = 0.02
"""Refused above it: one row would decide."""
LARGEST_UNSUPPORTED_MASS = 0.05
"""Refused above it: the new policy does what the logging policy never did."""
WARNED_EFFECTIVE_SHARE = 0.05
"""Warned below it."""
WARNED_UNSUPPORTED_MASS = 0.001
"""Warned above it."""
WARNED_WEIGHT_DEVIATION = 3.0
"""Standard errors that the weights' mean may be from 1 without a warning."""


@dataclass(frozen=True, slots=True)
class Support:
    """Overlap of two policies on a log; of slates, that of the worst slot."""

    rows: int
    effective_rows: float
    """(Σ w)² / Σ w² (Kish 1965)."""
    effective_rewards: float
    """(Σ |w r|)² / Σ (w r)²: rewards that the estimate rests on."""
    largest_weight_share: float
    mean_weight: float
    """1 in expectation, if propensities are right and nothing lacks support."""
    unsupported_mass: float
    """Mean probability of the new policy where the logging policy has none. If the logging
    policy's probabilities are not known, what the weights' mean lacks of 1, where that is more
    than chance.
    """
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    def require(self) -> None:
        """Refuses to go on.

        Raises:
            DataError: support is too thin; names rule and value.
        """
        if self.refusals:
            raise DataError("the log cannot tell this policy's value: " + "; ".join(self.refusals))


def support(weight: Float64, reward: Float64, unsupported_mass: float | None = None) -> Support:
    """Judges the weights of a log.

    Args:
        weight: of every slot's reward ``[n, slots]``.
        reward: ``[n, slots]``.
        unsupported_mass: from :func:`unsupported_mass`, where the logging policy is known whole.
    """
    n = len(weight)
    total = weight.sum(axis=0)
    effective = _effective(weight)
    share = np.max(weight.max(axis=0) / np.where(total > 0, total, 1.0))
    mean = weight.mean(axis=0)
    error = np.maximum(weight.std(axis=0, ddof=1) / np.sqrt(n), 1e-12)
    deviation = (mean - 1.0) / error
    worst = int(np.argmax(np.abs(deviation)))
    mass = unsupported_mass
    if mass is None:
        lacking = np.where(deviation < -WARNED_WEIGHT_DEVIATION, 1.0 - mean, 0.0)
        mass = float(lacking.max())
    # All rewards of a slate add up to its value.
    rewards = float(_effective(np.abs(weight * reward).sum(axis=1, keepdims=True))[0])
    rows = float(effective.min())
    refusals = []
    if rows < FEWEST_EFFECTIVE_ROWS:
        refusals.append(f"{rows:.0f} effective rows of {n}, at least {FEWEST_EFFECTIVE_ROWS:.0f}")
    if rewards < FEWEST_EFFECTIVE_REWARDS:
        refusals.append(f"{rewards:.1f} effective rewards, at least {FEWEST_EFFECTIVE_REWARDS:.0f}")
    if share > LARGEST_WEIGHT_SHARE:
        refusals.append(
            f"one row has {share:.1%} of the weight, at most {LARGEST_WEIGHT_SHARE:.0%}"
        )
    if mass > LARGEST_UNSUPPORTED_MASS:
        refusals.append(
            f"{mass:.1%} of the new policy's choices are ones that the logging policy never "
            f"made, at most {LARGEST_UNSUPPORTED_MASS:.0%}"
        )
    warnings = []
    if rows < WARNED_EFFECTIVE_SHARE * n:
        warnings.append(f"{rows:.0f} effective rows of {n}")
    if mass > WARNED_UNSUPPORTED_MASS:
        warnings.append(f"{mass:.1%} of the new policy's choices were never logged")
    if abs(deviation[worst]) > WARNED_WEIGHT_DEVIATION:
        warnings.append(
            f"weights have mean {mean[worst]:.3f}, {deviation[worst]:+.1f} standard errors "
            f"from 1: propensities may be wrong"
        )
    return Support(
        rows=n,
        effective_rows=rows,
        effective_rewards=rewards,
        largest_weight_share=float(share),
        mean_weight=float(mean[worst]),
        unsupported_mass=mass,
        refusals=tuple(refusals),
        warnings=tuple(warnings),
    )


def unsupported_mass(logging: Float64, new: Float64) -> float:
    """Share of the new policy's choices that the logging policy never makes.

    Args:
        logging: its probabilities of all actions ``[n, actions]``.
        new: the new policy's.
    """
    return float(np.where(logging > 0, 0.0, new).sum(axis=1).mean())


def _effective(weight: Float64) -> Float64:
    squares = np.square(weight).sum(axis=0)
    return np.asarray(np.square(weight.sum(axis=0)) / np.where(squares > 0, squares, 1.0))
