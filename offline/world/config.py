"""Size and shape of a synthetic world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recmesh.storage.interchange import TIMESTAMP


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Parameters of a world; equal parameters give equal tables."""

    doctors: int = 2000
    items: int = 4000
    days: int = 90
    seed: int = 7
    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    dim: int = 24
    """Latent dimensions."""
    history_days: int = 360
    """Items and edges are at most this much older than the start."""
    sessions_per_day: float = 0.1
    """Mean over doctors."""
    activity_sigma: float = 0.8
    """Of the log-normal activity."""
    slots: int = 10
    drift: float = 0.5
    """Length of the interests' change over the whole period; interests have length 1."""
    follows: float = 8.0
    """Mean number of edges from a doctor."""
    campaigns: int = 12
    """Within the simulated days; half as many more begin when they end."""

    def timestamps(self, days: NDArray[np.float64]) -> pa.Array:
        """Days since the start as timestamps; NaN as null."""
        missing = np.isnan(days)
        origin = int(self.start.timestamp() * 1000)
        millis = (np.where(missing, 0.0, days) * 86_400_000).astype(np.int64) + origin
        return pa.array(millis, pa.int64(), mask=missing).cast(TIMESTAMP)
