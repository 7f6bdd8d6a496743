"""A model that keeps the contract, and twins of it that each break one part of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from recmesh.models.model import (
    EMPTY,
    Capability,
    Context,
    Description,
    Float32,
    Model,
    Retrieved,
)

ITEMS = 400
HEAVY = 1000


class CleanModel(Model):
    """Likes items that are near those of the history; knows 400 items by number."""

    description = Description(
        name="checked",
        version="v1",
        capabilities=frozenset({Capability.RETRIEVE, Capability.SCORE}),
        owner="tests",
        calibration={"raw_scores": [-1.0, 0.0], "probabilities": [0.0, 1.0]},
    )

    def __init__(self) -> None:
        self._ids = [f"item-{n}" for n in range(ITEMS)]
        self._places = {item_id: n for n, item_id in enumerate(self._ids)}

    def _catalogue(self, context: Context) -> Float32 | None:
        """Scores ``[400]``; None for whom nothing is known of."""
        read = [self._places[i] for i in context.user.history_item_ids if i in self._places]
        if not read:
            return None
        return -np.abs(np.arange(ITEMS) - np.mean(read)).astype(np.float32) / ITEMS

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        scores = self._catalogue(context)
        if scores is None:
            # Somebody new is shown what there is, in the catalogue's order.
            return Retrieved(self._ids[:limit], -np.arange(ITEMS, dtype=np.float32)[:limit])
        best = np.argsort(-scores, kind="stable")[:limit]
        return Retrieved([self._ids[n] for n in best], scores[best])

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        places = np.array([self._places.get(item_id, -1) for item_id in item_ids], np.int64)
        scores = self._catalogue(context)
        if scores is None:
            return np.full(len(item_ids), np.nan, np.float32)
        return np.where(places >= 0, scores[places], np.float32(np.nan))


class WorstFirst(CleanModel):
    """Retrieves its best items, the best one last."""

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        found = super().retrieve(context, limit)
        return Retrieved(found.item_ids[::-1], found.scores[::-1])


class BatchStandardised(CleanModel):
    """Standardises over the items of the request."""

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        scores = super().score(context, item_ids)
        if np.isfinite(scores).any():
            scores = scores - np.float32(np.nanmean(scores))
        return scores

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        found = super().retrieve(context, limit)
        scores = self.score(context, found.item_ids)
        return Retrieved(found.item_ids, np.where(np.isnan(scores), found.scores, scores))


class Leaky(CleanModel):
    """Remembers every call."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Float32] = []

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        self._calls.append(np.ones(25_000, np.float32))
        return super().score(context, item_ids)


class Endless(CleanModel):
    """Takes its time with large requests, whoever still waits for them."""

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        if len(item_ids) > HEAVY:
            time.sleep(0.5)
        return super().score(context, item_ids)


class NanOnNobody(CleanModel):
    """Divides by the length of a history."""

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        if self._catalogue(context) is None:
            return Retrieved(self._ids[:limit], np.full(min(limit, ITEMS), np.nan, np.float32))
        return super().retrieve(context, limit)


class InfiniteForNobody(CleanModel):
    """Takes the logarithm of nothing."""

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        if self._catalogue(context) is None:
            return np.full(len(item_ids), -np.inf, np.float32)
        return super().score(context, item_ids)


class ZeroForNobody(CleanModel):
    """Fakes an opinion."""

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        return EMPTY if self._catalogue(context) is None else super().retrieve(context, limit)

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        return np.nan_to_num(super().score(context, item_ids), nan=0.0)


MODELS: dict[str, type[CleanModel]] = {
    made.__name__: made
    for made in (
        CleanModel,
        WorstFirst,
        BatchStandardised,
        Leaky,
        Endless,
        NanOnNobody,
        InfiniteForNobody,
        ZeroForNobody,
    )
}
