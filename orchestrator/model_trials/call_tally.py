"""How calls of one version of a model went."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

RECENT = 2048
"""Latencies that are kept."""


@dataclass(slots=True)
class CallTally:
    """Counts from its making on. Belongs to one event loop."""

    calls: int = 0
    failures: int = 0
    """Calls without an answer: errors, timeouts, and those that a circuit breaker forbade."""
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Seconds that the latest answers took."""

    def add(self, took_s: float, *, answered: bool) -> None:
        """Counts a call."""
        self.calls += 1
        if answered:
            self.recent_s.append(took_s)
        else:
            self.failures += 1

    def latency_s(self, quantile: float) -> float:
        """Quantile in [0, 1] of the latest answers; 0 where there are none."""
        return float(np.quantile(self.recent_s, quantile)) if self.recent_s else 0.0
