"""How two versions of a model answer the same calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

K = 10


def overlap(first: Sequence[str], second: Sequence[str], k: int = K) -> float | None:
    """Share of the first ``k`` items that both have among theirs; None where neither has any."""
    one, two = set(first[:k]), set(second[:k])
    most = max(len(one), len(two))
    return len(one & two) / most if most else None


def rank_correlation(first: Float32, second: Float32) -> float | None:
    """Spearman's ρ of two opinions of the same items ``[n]``, NaN where there is none.

    Over items on which both have one; None where these are fewer than three or all alike. Ties
    share their mean rank.
    """
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3:
        return None
    one, two = (_mean_ranks(scores[both]) for scores in (first, second))
    one, two = one - one.mean(), two - two.mean()
    norm = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / norm if norm > 0 else None


def _mean_ranks(scores: Float32) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)


@dataclass(slots=True)
class Mean:
    """A running mean."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float | None) -> None:
        """Takes a value in; None is none."""
        if value is not None:
            self.count += 1
            self.total += value

    @property
    def value(self) -> float:
        """NaN where there was no value."""
        return self.total / self.count if self.count else float("nan")


@dataclass(slots=True)
class Agreement:
    """Of a version with the live one, over mirrored calls. Belongs to one event loop."""

    overlap_at_10: Mean
    """Of the first ten items retrieved, in [0, 1]."""
    rank_correlation: Mean
    """Of scores of the same items, in [−1, 1]."""
    opinions: Mean
    """Share of items with an opinion, of those on which the live version has one."""
    calibrated_shift: Mean
    """Mean calibrated score minus the live version's on the same items: what moves a blend."""

    @classmethod
    def none_yet(cls) -> Agreement:
        """Before the first call."""
        return cls(Mean(), Mean(), Mean(), Mean())
