"""The serving side of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from recmesh.models.model import (
    EMPTY,
    Capability,
    Context,
    Description,
    Float32,
    Model,
    Retrieved,
    User,
)
from recmesh.models.nlp.doctor_embedding import DoctorEmbedding
from recmesh.models.nlp.encoder import BATCH, Encoder
from recmesh.models.nlp.item_vectors import ItemVectors
from recmesh.models.nlp.query_log import earlier_queries
from recmesh.models.nlp.query_vectors import QueryVectors
from recmesh.models.nlp.spelling import Spelling
from recmesh.models.nlp.truncation import space, truncated
from recmesh.storage.artifacts import Artifact
from recmesh.storage.errors import ArtifactError

QUERIES_KEPT = 4096


class LanguageModel(Model):
    """Scores items by what they say, and retrieves those that earlier queries led to.

    Retrieval by meaning is the vector index' work.
    """

    def __init__(self, artifact: Artifact, encoder: Encoder | None = None) -> None:
        parameters = artifact.card.parameters
        try:
            item_vectors: Float32 = artifact.tensors["item_vectors"].astype(np.float32)
            item_ids = artifact.strings["item_ids"]
            self._specialties: dict[str, Float32] = dict(
                zip(
                    artifact.strings["specialties"],
                    artifact.tensors["specialty_vectors"].astype(np.float32),
                    strict=True,
                )
            )
            self._log = earlier_queries(artifact)
            self._spelling = Spelling(artifact.strings["words"], artifact.tensors["word_counts"])
            self._mean: Float32 = artifact.tensors["mean"]
            self._covariance: Float32 = artifact.tensors["covariance"]
            version = str(parameters["embedding_version"])
            choice = str(parameters["encoder"])
            self._dim = int(parameters.get("dim", 0))
            self._doctor = DoctorEmbedding(
                half_life_days=float(parameters["half_life_days"]),
                profile_events=float(parameters["profile_events"]),
            )
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"artifact nlp@{artifact.version} lacks {error}") from error
        self._encoder = encoder or Encoder.choose(choice)
        here = space(self._encoder.version, self._dim)
        if here != version:
            raise ArtifactError(
                f"artifact nlp@{artifact.version} was made by encoder {version}, here is "
                f"{here}; run: recmesh train nlp"
            )
        self._item_ids = item_ids
        self._items = ItemVectors(item_ids, item_vectors, artifact.appended, version)
        self._queries = QueryVectors(self._encode, QUERIES_KEPT)
        self._corrected = lru_cache(maxsize=QUERIES_KEPT)(self._spelling.corrected)
        self.description = Description(
            name=artifact.card.model,
            version=artifact.version,
            capabilities=frozenset(Capability),
            owner=artifact.card.owner,
            embedding_dim=int(item_vectors.shape[1]),
            embedding_version=version,
            calibration=artifact.card.calibration,
        )

    def _encode(self, texts: Sequence[str]) -> Float32:
        return truncated(self._encoder.encode(texts), self._dim)

    def corrected(self, text: str) -> str:
        """The text with the spelling of unknown words corrected."""
        return self._corrected(text)

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        """Items that the earlier queries nearest in meaning led to; none without a query."""
        if not context.query:
            return EMPTY
        rows, scores = self._log.best(self._queries.one(context.query), len(self._item_ids), limit)
        return Retrieved([self._item_ids[row] for row in rows.tolist()], scores)

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[len(texts), dim]``."""
        # Many are items, which nobody asks again.
        return self._queries.many(texts) if 0 < len(texts) <= BATCH else self._encode(texts)

    def embed_user(self, user: User, now_unix_s: int) -> Float32 | None:
        """Unit vector ``[dim]`` of history and specialties; None when both are unknown."""
        known, vectors = self._items.current()
        return self._doctor.embed(user, now_unix_s, known, vectors, self._specialties)

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """Cosine to the query, or standard deviations above the user's mean cosine.

        Without a query the cosine is standardised over the whole catalogue: its mean is
        ``mean·u`` and its variance ``uᵀ·covariance·u``, whatever items are asked.
        """
        scores = np.full(len(item_ids), np.nan, np.float32)
        if context.query:
            vector: Float32 | None = self._queries.one(context.query)
        else:
            vector = self.embed_user(context.user, context.now_unix_s)
        if vector is None:
            return scores
        row_of, vectors = self._items.current()
        rows = np.array([row_of.get(id_, -1) for id_ in item_ids], np.int64)
        known = rows >= 0
        # einsum, not BLAS: a row's sum is then the same whatever rows stand beside it.
        cosines = np.einsum("ij,j->i", vectors[rows[known]], vector)
        if not context.query:
            deviation = float(np.sqrt(max(float(vector @ self._covariance @ vector), 0.0)))
            cosines = (cosines - self._mean @ vector) / max(deviation, 1e-6)
        scores[known] = cosines
        return scores


def load(artifact: Artifact) -> Model:
    """Makes the serving model of a published artifact."""
    return LanguageModel(artifact)
