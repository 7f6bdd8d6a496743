"""Whether failures have become more frequent than they may be, asked all the time.

Under the hypothesis that a failure has at most the probability p₀, the likelihood ratio of any
p₁ > p₀ against p₀ is an e-process. Starting it anew whenever it has fallen below 1 makes a CUSUM
(Page, Biometrika 1954) that notices a version which was good and has become bad, and the mean of
such over several p₁ is an e-detector: as long as the hypothesis holds, the calls until it first
reaches c are at least c on average (Shin, Ramdas & Rinaldo, "E-detectors", 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FACTORS = (2, 4, 8, 16, 32)
"""Alternatives: so many times what is allowed, at most :data:`MOST`."""
MOST = 0.99


@dataclass(slots=True)
class _Since:
    """Evidence for one alternative since it began anew."""

    log: float = 0.0
    failures: int = 0
    calls: int = 0


@dataclass(slots=True)
class ExcessDetector:
    """Fed with calls in the order in which they were made, some at a time."""

    _since: dict[int, _Since] = field(default_factory=lambda: {one: _Since() for one in FACTORS})

    def add(self, failures: int, calls: int, allowed: float) -> float:
        """Takes in ``failures`` of ``calls``; returns the evidence that more than ``allowed`` fail.

        ``allowed`` is a probability in (0, 1). Infinite where it cannot be said in a float.
        """
        if not 0 < allowed < 1:
            raise ValueError(f"allowed is {allowed:g}; it must be in (0, 1)")
        for factor, since in self._since.items():
            rate = min(allowed * factor, max(MOST, (1 + allowed) / 2))
            if since.log < 0:
                since.log, since.failures, since.calls = 0.0, 0, 0
            since.log += failures * math.log(rate / allowed)
            since.log += (calls - failures) * math.log((1 - rate) / (1 - allowed))
            since.failures += failures
            since.calls += calls
        top = max(since.log for since in self._since.values())
        mean = sum(math.exp(since.log - top) for since in self._since.values()) / len(FACTORS)
        log = top + math.log(mean)
        return math.exp(log) if log < 700 else math.inf

    @property
    def strongest(self) -> tuple[int, int]:
        """Failures and calls since the alternative began anew that has most for it."""
        best = max(self._since.values(), key=lambda since: since.log)
        return best.failures, best.calls
