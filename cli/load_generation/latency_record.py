"""How long requests took, in a histogram of three significant digits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

OK = "OK"
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
LONGEST_S = 600.0
"""What takes longer is counted as so long."""


def microsecond_histogram() -> HdrHistogram:
    """From a microsecond to :data:`LONGEST_S`."""
    return HdrHistogram(1, int(LONGEST_S * 1e6), 3)


@dataclass
class LatencyRecord:
    """Outcomes of requests."""

    deadline_s: float
    codes: Counter[str] = field(default_factory=Counter)
    good: int = 0
    """Answered with OK within the deadline of their intended start."""
    degraded: int = 0
    _answered: HdrHistogram = field(default_factory=microsecond_histogram)

    def add(self, code: str, latency_s: float, degraded: bool = False) -> None:
        """Counts one outcome; ``latency_s`` is from the intended start."""
        self.codes[code] += 1
        if code == OK:
            self._answered.record_value(max(1, round(1e6 * min(latency_s, LONGEST_S))))
            self.good += latency_s <= self.deadline_s
            self.degraded += degraded

    @property
    def requests(self) -> int:
        """All outcomes so far."""
        return self.codes.total()

    def percentiles_ms(self) -> dict[float, float | None]:
        """Latencies that so many percent of all requests are within.

        A request that failed is within none, however soon it failed: None where fewer than so many
        percent were answered.
        """
        answered = self.codes[OK]
        within = {p: math.ceil(round(p / 100 * self.requests, 6)) for p in PERCENTILES}
        ranks = {p: 100 * count / answered for p, count in within.items() if 0 < count <= answered}
        found = self._answered.get_percentile_to_value_dict(list(ranks.values()))
        return {p: found[ranks[p]] / 1e3 if p in ranks else None for p in PERCENTILES}
