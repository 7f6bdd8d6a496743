"""A model that costs nothing, so that what a benchmark measures is the mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.models.model import Capability, Context, Description, Float32, Model, Retrieved

NAMES = ("trivial-a", "trivial-b", "trivial-c", "trivial-d")
CANDIDATES = 200


class TrivialModel(Model):
    """Proposes the same 200 items always, each model in an order of its own."""

    def __init__(self, name: str, item_ids: Sequence[str]) -> None:
        self.description = Description(
            name=name,
            version="1",
            capabilities=frozenset({Capability.RETRIEVE, Capability.SCORE}),
            owner="benchmarks",
        )
        order = np.random.default_rng(NAMES.index(name)).permutation(CANDIDATES)
        self._ids = [item_ids[i] for i in order]
        self._scores = np.linspace(3, -3, CANDIDATES, dtype=np.float32)

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        """The same items for everybody."""
        return Retrieved(self._ids[:limit], self._scores[:limit])

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """Nothing is better than anything."""
        return np.zeros(len(item_ids), np.float32)
