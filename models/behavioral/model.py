"""The serving side of the sequence model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.models.behavioral.last_state import LastState
from recmesh.models.behavioral.sequence import LENGTH, gap_buckets
from recmesh.models.best_rows import best_rows
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
from recmesh.storage.errors import ArtifactError, DataError
from recmesh.storage.interchange import EVENT_TYPES, POSITIVE_EVENT_TYPES

POSITIVE = frozenset(EVENT_TYPES[name] for name in POSITIVE_EVENT_TYPES)


class SequenceModel(Model):
    """Predicts the next item from the history that comes with the call."""

    def __init__(self, artifact: Artifact) -> None:
        try:
            self._item_ids = np.array(artifact.strings["item_ids"], dtype=object)
            parameters = artifact.card.parameters
            self.last_state = LastState(
                artifact.tensors,
                len(self._item_ids),
                int(parameters["dim"]),
                int(parameters["blocks"]),
            )
        except (KeyError, DataError) as error:
            raise ArtifactError(f"artifact behavioral@{artifact.version}: {error}") from error
        self._rows = {item_id: row for row, item_id in enumerate(self._item_ids)}
        self._vectors: Float32 = self.last_state.items[1:]
        self.recent = RecentScores()
        self.description = Description(
            name=artifact.card.model,
            version=artifact.version,
            capabilities=frozenset({Capability.RETRIEVE, Capability.SCORE}),
            owner=artifact.card.owner,
            calibration=artifact.card.calibration,
        )

    def _scores(self, context: Context) -> Float32 | None:
        """Scores ``[items]``, standardised over the catalogue; None without history."""
        user = context.user
        steps: list[tuple[int, int, int]] = []
        for item_id, kind, time in zip(
            user.history_item_ids,
            user.history_event_types,
            user.history_times_unix_s,
            strict=True,
        ):
            if kind not in POSITIVE or item_id not in self._rows:
                continue
            item = self._rows[item_id] + 1
            if steps and steps[-1][0] == item:
                steps.pop()  # as in training: one step an item
            steps.append((item, kind, time))
        if not steps:
            return None
        events = steps[-LENGTH:]
        items, kinds, times = zip(*events, strict=True)
        gaps = gap_buckets(times, context.now_unix_s)
        state = self.last_state(np.array(items, np.int64), np.array(kinds, np.int64), gaps)
        logits = self._vectors @ state
        scores: Float32 = (logits - logits.mean()) / max(float(logits.std()), 1e-6)
        return scores

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """Standard deviations above the user's mean over the catalogue; NaN if unknown."""
        answer = np.full(len(item_ids), np.nan, np.float32)
        scores = self.recent.of(context, self._scores)
        if scores is not None:
            rows = np.array([self._rows.get(item_id, -1) for item_id in item_ids], np.int64)
            answer[rows >= 0] = scores[rows[rows >= 0]]
        return answer

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        """The likeliest next items that are not in the history."""
        known = self.recent.of(context, self._scores)
        if known is None:
            return EMPTY
        scores = known.copy()
        seen = [self._rows[i] for i in set(context.user.history_item_ids) if i in self._rows]
        scores[seen] = -np.inf
        best = best_rows(scores, min(limit, len(scores) - len(seen)))
        return Retrieved(self._item_ids[best].tolist(), scores[best])


def load(artifact: Artifact) -> Model:
    """Makes the serving model of a published artifact."""
    return SequenceModel(artifact)
