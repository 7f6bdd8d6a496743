"""A campaign as one vector: its items, who it targets, and who answered it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.models.model import Float32
from recmesh.models.nlp.doctor_embedding import unit


@dataclass(frozen=True, slots=True)
class CampaignEmbedding:
    """Blends up to three unit vectors; the ablation is `recmesh evaluate embeddings campaigns`."""

    items: float = 1.0
    """Weight of the mean of its items."""
    targeting: float = 0.0
    """Weight of the specialties it names, as texts."""
    audience: float = 0.0
    """Weight of the mean of the doctors it may reach or has won."""

    def embed(
        self, item_vectors: Float32, targeting_vectors: Float32, audience_vectors: Float32
    ) -> Float32 | None:
        """Unit vector ``[dim]``; None when none of its parts is known.

        Args:
            item_vectors: of its items ``[items, dim]``.
            targeting_vectors: of its specialties' names ``[specialties, dim]``; none: for all.
            audience_vectors: of doctors ``[doctors, dim]``.
        """
        parts: Sequence[tuple[float, Float32]] = (
            (self.items, item_vectors),
            (self.targeting, targeting_vectors),
            (self.audience, audience_vectors),
        )
        total = np.zeros(item_vectors.shape[1], np.float32)
        for weight, vectors in parts:
            mean = unit(vectors.sum(axis=0)) if len(vectors) else None
            if mean is not None:
                total = total + np.float32(weight) * mean
        return unit(total)
