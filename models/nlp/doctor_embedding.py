"""A doctor as one vector: what they read lately, and what their profile says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recmesh.models.model import Float32, Int64, User
from recmesh.storage.interchange import EVENT_TYPES

DAY_S = 86_400
WEIGHTS: dict[int, float] = {
    EVENT_TYPES[name]: weight
    for name, weight in {
        "click": 1.0,
        "dwell": 1.5,
        "swipe": 1.0,
        "save": 3.0,
        "share": 3.0,
        "follow": 2.0,
        "dismiss": -1.0,
    }.items()
}
"""How much an event says about taste. Others, such as impressions, say nothing."""


def unit(vector: Float32) -> Float32 | None:
    """The vector at unit length; None when it has no direction."""
    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length > 1e-6 else None


@dataclass(frozen=True, slots=True)
class DoctorEmbedding:
    """Blends history and profile.

    The profile counts as ``profile_events`` clicks made just now: it leads for a
    newcomer and fades as history grows.
    """

    half_life_days: float
    profile_events: float

    def embed(
        self,
        user: User,
        now_unix_s: int,
        item_rows: Mapping[str, int],
        item_vectors: Float32,
        specialty_vectors: Mapping[str, Float32],
    ) -> Float32 | None:
        """Unit vector ``[dim]``; None without a known item or specialty."""
        rows, weights = self.history(user, now_unix_s, item_rows)
        mixed = weights @ item_vectors[rows]
        profile = self.profile(user, specialty_vectors)
        if profile is not None:
            mixed = mixed + np.float32(self.profile_events) * profile
        return unit(mixed)

    def history(
        self, user: User, now_unix_s: int, item_rows: Mapping[str, int]
    ) -> tuple[Int64, Float32]:
        """Rows of the items that say something of the user ``[n]``, and how much ``[n]``."""
        rows: list[int] = []
        weights: list[float] = []
        for item_id, event_type, time in zip(
            user.history_item_ids,
            user.history_event_types,
            user.history_times_unix_s,
            strict=True,
        ):
            row = item_rows.get(item_id)
            weight = WEIGHTS.get(event_type)
            if row is None or weight is None:
                continue
            age_days = max(now_unix_s - time, 0) / DAY_S
            rows.append(row)
            weights.append(weight * 0.5 ** (age_days / self.half_life_days))
        return np.array(rows, np.int64), np.array(weights, np.float32)

    def profile(self, user: User, specialty_vectors: Mapping[str, Float32]) -> Float32 | None:
        """Unit vector of what the user declares ``[dim]``; None without a known specialty."""
        # The first specialty is the most important one: weights 1, 1/2, 1/3, …
        parts = [
            specialty_vectors[name] / rank
            for rank, name in enumerate(user.specialties, start=1)
            if name in specialty_vectors
        ]
        return unit(np.sum(parts, axis=0)) if parts else None
