"""Serving of collaborative filtering: everything about the user comes with the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.models.best_rows import best_rows
from recmesh.models.cf.als import als_scores
from recmesh.models.cf.ease import ease_scores
from recmesh.models.interactions import event_weights, standardised
from recmesh.models.model import (
    EMPTY,
    Capability,
    Context,
    Description,
    Float32,
    Int64,
    Model,
    Retrieved,
)
from recmesh.models.recent_scores import RecentScores
from recmesh.storage.artifacts import Artifact
from recmesh.storage.errors import ArtifactError


class Scorer:
    """Scores a whole catalogue from a history, by either algorithm."""

    def __init__(self, tensor: npt.NDArray[Any], parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._is_ease = parameters["algorithm"] == "ease"
        self._tensor = tensor
        if not self._is_ease:
            self._gram: Float32 = tensor.T @ tensor

    def __call__(self, items: Int64, weights: Float32) -> Float32:
        """z-scores ``[catalogue]`` for a history of item positions and weights ``[n]``."""
        if self._is_ease:
            return standardised(ease_scores(self._tensor, items, weights))
        return standardised(
            als_scores(
                self._tensor,
                self._gram,
                items,
                weights,
                float(self._parameters["regularisation"]),
                float(self._parameters["confidence"]),
            )
        )


class CollaborativeModel(Model):
    """Raw scores are z-scores over the model's whole catalogue for the user."""

    def __init__(self, artifact: Artifact) -> None:
        card = artifact.card
        self._item_ids = artifact.strings["item_ids"]
        self._positions = {item_id: i for i, item_id in enumerate(self._item_ids)}
        self._type_weights = card.parameters["type_weights"]
        self._half_life_days = float(card.parameters["half_life_days"])
        tensor = artifact.tensors["items"]
        if len(tensor) != len(self._item_ids):
            raise ArtifactError(
                f"artifact {card.model}@{artifact.version} lacks items; train again"
            )
        self._scorer = Scorer(tensor, card.parameters)
        self.recent = RecentScores()
        self.description = Description(
            name=card.model,
            version=artifact.version,
            capabilities=frozenset({Capability.RETRIEVE, Capability.SCORE}),
            owner=card.owner,
            calibration=dict(card.calibration),
        )

    def _scored(self, items: Int64, weights: Float32) -> Float32 | None:
        """Scores ``[catalogue]``; None without a history."""
        return self._scorer(items, weights) if len(items) else None

    def _history(self, context: Context) -> tuple[Int64, Float32]:
        """Positions of the items that the user liked ``[n]``, and how much ``[n]``."""
        user = context.user
        weights = event_weights(
            np.asarray(user.history_event_types, np.int64),
            np.asarray(user.history_times_unix_s, np.int64),
            context.now_unix_s,
            self._type_weights,
            self._half_life_days,
        )
        known: dict[int, float] = {}
        for item_id, weight in zip(user.history_item_ids, weights.tolist(), strict=True):
            position = self._positions.get(item_id)
            if position is not None and weight > 0:
                known[position] = max(known.get(position, 0.0), weight)
        items = np.fromiter(known, np.int64, len(known))
        return items, np.fromiter(known.values(), np.float32, len(known))

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        """The best items outside the history."""
        seen, weights = self._history(context)
        known = self.recent.of(context, lambda _: self._scored(seen, weights))
        if known is None or limit <= 0:
            return EMPTY
        scores = known.copy()
        scores[seen] = -np.inf
        best = best_rows(scores, min(limit, len(scores) - len(seen)))
        return Retrieved([self._item_ids[i] for i in best.tolist()], scores[best])

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """NaN for items never seen in training, and for users without a history."""
        result = np.full(len(item_ids), np.nan, np.float32)
        scores = self.recent.of(context, lambda c: self._scored(*self._history(c)))
        if scores is not None:
            places = np.array([self._positions.get(item_id, -1) for item_id in item_ids], int)
            result[places >= 0] = scores[places[places >= 0]]
        return result


def load(artifact: Artifact) -> CollaborativeModel:
    """Serves a published artifact."""
    return CollaborativeModel(artifact)
