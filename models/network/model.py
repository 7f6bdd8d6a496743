"""Serving of the network model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from recmesh.models.interactions import standardised
from recmesh.models.model import (
    EMPTY,
    Capability,
    Context,
    Description,
    Float32,
    Model,
    Retrieved,
)
from recmesh.models.recent_scores import RecentScores
from recmesh.storage.artifacts import Artifact

DOCTORS_SURFACE = "network"
"""The surface whose items are doctors."""


class NetworkModel(Model):
    """Raw scores are z-scores over all doctors or all items, for the user."""

    def __init__(self, artifact: Artifact) -> None:
        tensors = artifact.tensors
        self._user_ids, self._item_ids = artifact.strings["user_ids"], artifact.strings["item_ids"]
        self._users = {user_id: i for i, user_id in enumerate(self._user_ids)}
        self._items = {item_id: i for i, item_id in enumerate(self._item_ids)}
        self._nearest, self._ranks = tensors["nearest"], tensors["ranks"]
        self._tie_targets, self._tie_starts = tensors["tie_targets"], tensors["tie_starts"]
        self._engaged = sparse.csr_matrix(
            (tensors["engaged_weights"], tensors["engaged_items"], tensors["engaged_starts"]),
            shape=(len(self._user_ids), len(self._item_ids)),
        )
        self.recent = RecentScores()
        self.description = Description(
            name=artifact.card.model,
            version=artifact.version,
            capabilities=frozenset({Capability.RETRIEVE, Capability.SCORE}),
            owner=artifact.card.owner,
            calibration=dict(artifact.card.calibration),
        )

    def _raw(self, context: Context) -> Float32 | None:
        """Closeness ``[doctors]`` or colleagues' engagement ``[items]``; None: unknown."""
        user = self._users.get(context.user.user_id)
        if user is None:
            return None
        near, ranks = self._nearest[user], self._ranks[user]
        if context.surface != DOCTORS_SURFACE:
            return np.asarray(self._engaged[near].T @ ranks, np.float32)
        closeness = np.zeros(len(self._user_ids), np.float32)
        closeness[near] = ranks
        return closeness

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        """Doctors not yet tied to the user, or items that colleagues engaged with."""
        raw = self.recent.of(context, self._raw)
        if raw is None or not len(raw) or limit <= 0:
            return EMPTY
        scores, user = standardised(raw), self._users[context.user.user_id]
        offered = raw > 0
        if context.surface == DOCTORS_SURFACE:
            offered[self._tie_targets[self._tie_starts[user] : self._tie_starts[user + 1]]] = False
            ids = self._user_ids
        else:
            ids = self._item_ids
            seen = (self._items.get(item_id) for item_id in context.user.history_item_ids)
            offered[[place for place in seen if place is not None]] = False
        places = np.flatnonzero(offered)
        best = places[np.argsort(-scores[places], kind="stable")[:limit]]
        return Retrieved([ids[i] for i in best.tolist()], scores[best])

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """NaN for users outside the network and for ids unknown in training."""
        result = np.full(len(item_ids), np.nan, np.float32)
        raw = self.recent.of(context, self._raw)
        if raw is not None and len(raw):
            known = self._users if context.surface == DOCTORS_SURFACE else self._items
            places = np.array([known.get(item_id, -1) for item_id in item_ids], np.int64)
            result[places >= 0] = standardised(raw)[places[places >= 0]]
        return result


def load(artifact: Artifact) -> NetworkModel:
    """Serves a published artifact."""
    return NetworkModel(artifact)
