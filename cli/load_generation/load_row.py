"""What one rate, or one part of a profile, showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from recmesh.cli.load_generation.latency_record import OK, LatencyRecord

LAG_FLOOR_MS = 5.0
LAG_SHARE = 0.1


@dataclass(frozen=True)
class SurfaceRow:
    """Outcomes of one surface's requests, or of all. Latencies are from the intended start."""

    requests: int
    goodput_per_s: float
    """Pages that came within the deadline, a second."""
    p50_ms: float | None
    """None here and below: so many requests were not answered."""
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    degraded_share: float
    """Of the pages."""
    codes: Mapping[str, int]

    @classmethod
    def of(cls, record: LatencyRecord, seconds: float) -> SurfaceRow:
        """A record of so many seconds."""
        latency_ms = record.percentiles_ms()
        return cls(
            requests=record.requests,
            goodput_per_s=record.good / seconds,
            p50_ms=latency_ms[50.0],
            p90_ms=latency_ms[90.0],
            p99_ms=latency_ms[99.0],
            p999_ms=latency_ms[99.9],
            degraded_share=record.degraded / max(record.codes[OK], 1),
            codes=dict(record.codes),
        )


@dataclass(frozen=True)
class LoadRow:
    """One line of the table."""

    rate_per_s: float
    """Asked for."""
    seconds: float
    deadline_ms: float
    offered_per_s: float
    """Requests that were to start, a second."""
    achieved_per_s: float
    """Pages that arrived meanwhile, a second; of late ones, too."""
    lag_p99_ms: float
    """The generator's own: from a request's intended start to its sending."""
    total: SurfaceRow
    surfaces: Mapping[str, SurfaceRow]

    @property
    def holds(self) -> bool:
        """Whether 99% of the requests were answered within the deadline."""
        p99_ms = self.total.p99_ms
        return p99_ms is not None and p99_ms <= self.deadline_ms

    @property
    def reliable(self) -> bool:
        """Whether the generator kept to its schedule.

        Its lag is part of every latency: it may be 5 ms, or a tenth of the 99th percentile (of the
        deadline, where that many were not answered).
        """
        p99_ms = self.total.p99_ms or self.deadline_ms
        return self.lag_p99_ms <= max(LAG_FLOOR_MS, LAG_SHARE * p99_ms)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {**asdict(self), "holds": self.holds, "reliable": self.reliable}
