"""How a doctor should become vectors, judged by what they wanted later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from recmesh.models.model import Float32, Int64, Progress, User, silent
from recmesh.models.nlp.doctor_embedding import DAY_S, DoctorEmbedding, unit
from recmesh.models.nlp.encoder import Encoder
from recmesh.models.nlp.training import HALF_LIVES_DAYS, PROFILE_EVENTS, distinct, item_texts
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.offline.embeddings.ablation import Ablation
from recmesh.offline.evaluation.bootstrap import Float64
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.evaluation.served_scores import request_user
from recmesh.offline.evaluation.temporal_split import TemporalSplit
from recmesh.offline.metrics.relevance import ndcg, recall
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset

K, DEEPEST = 10, 100
SEARCHES_KEPT = 20
Searches = Mapping[str, Sequence[tuple[Float32, int]]]
"""Vectors of a user's searches and their times, by user id."""


@dataclass(frozen=True)
class Readers:
    """Everything that a doctor's vectors may be made of."""

    users: list[User]
    now_unix_s: int
    item_rows: Mapping[str, int]
    item_vectors: Float32
    specialty_vectors: Mapping[str, Float32]
    searches: Searches

    def mean(self, way: DoctorEmbedding, searches: float, user: User) -> Float32:
        """One interest ``[1, dim]``: the mean; a search weighs as much as ``searches`` clicks."""
        rows, weights = way.history(user, self.now_unix_s, self.item_rows)
        mixed = weights @ self.item_vectors[rows]
        profile = way.profile(user, self.specialty_vectors)
        if profile is not None:
            mixed = mixed + np.float32(way.profile_events) * profile
        if searches:
            for vector, time in self.searches.get(user.user_id, ())[-SEARCHES_KEPT:]:
                age_days = max(self.now_unix_s - time, 0) / DAY_S
                mixed = mixed + searches * 0.5 ** (age_days / way.half_life_days) * vector
        mean = unit(mixed)
        return mixed[None] * 0 if mean is None else mean[None]

    def interests(self, way: DoctorEmbedding, count: int, user: User) -> Float32:
        """Up to ``count`` interests ``[n, dim]``: clusters of what was read and declared."""
        rows, weights = way.history(user, self.now_unix_s, self.item_rows)
        liked = weights > 0
        vectors, weights = self.item_vectors[rows][liked], weights[liked]
        profile = way.profile(user, self.specialty_vectors)
        if profile is not None:
            vectors = np.concatenate([vectors, profile[None]])
            weights = np.append(weights, np.float32(way.profile_events))
        if not len(vectors):
            return np.zeros((1, self.item_vectors.shape[1]), np.float32)
        return clusters(vectors, weights, count)


def clusters(vectors: Float32, weights: Float32, count: int, rounds: int = 10) -> Float32:
    """Unit centres of a spherical k-means (Dhillon & Modha 2001), from far points, no chance.

    Args:
        vectors: unit vectors ``[n, dim]``, at least one.
        weights: of each, above 0.
        count: most centres.
        rounds: of assigning and averaging.

    Returns:
        ``[at most count, dim]``
    """
    centres = vectors[[int(weights.argmax())]]
    while len(centres) < min(count, len(vectors)):
        distance = 1.0 - (vectors @ centres.T).max(axis=1)
        centres = np.concatenate([centres, vectors[[int((distance * weights).argmax())]]])
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(axis=1)
        for row in range(len(centres)):
            mean = unit((weights * (nearest == row)) @ vectors)
            if mean is not None:
                centres[row] = mean
    return centres


def _readers(
    dataset: Dataset, judged: Period, encoder: Encoder, cache: Path | None, progress: Progress
) -> Readers:
    specialties = sorted(
        distinct(dataset.items["specialties"]) | distinct(dataset.users["specialties"])
    )
    texts = item_texts(dataset)
    vectors = encode_cached(encoder, [*texts, *specialties], cache, progress)
    events = judged.known.events
    events = events.filter(pc.equal(events["event_type"], "search"))
    queries: list[str] = sorted(set(events["query"].to_pylist()))
    by_query = dict(zip(queries, encode_cached(encoder, queries, cache, progress), strict=True))
    searches: dict[str, list[tuple[Float32, int]]] = {}
    for user_id, query, time in zip(
        events["user_id"].to_pylist(),
        events["query"].to_pylist(),
        events["time"].to_pylist(),
        strict=True,
    ):
        searches.setdefault(user_id, []).append((by_query[query], int(time.timestamp())))
    store = UserStore(judged.known)
    return Readers(
        [request_user(store, user_id) for user_id in judged.users],
        judged.now_unix_s,
        {item_id: row for row, item_id in enumerate(dataset.items["item_id"].to_pylist())},
        vectors[: len(texts)],
        dict(zip(specialties, vectors[len(texts) :], strict=True)),
        searches,
    )


def ways(readers: Readers) -> dict[str, Callable[[User], Float32]]:
    """Every way by name: a user's interests ``[n, dim]``; the served one first."""
    served = DoctorEmbedding(HALF_LIVES_DAYS[1], PROFILE_EVENTS)
    means = {
        "served: mean of history, fading, and profile": served,
        "no fading": replace(served, half_life_days=1e9),
        "history alone": replace(served, profile_events=0.0),
        "profile alone": replace(served, half_life_days=1e-6),
        "profile as 10 clicks": replace(served, profile_events=10.0),
    }
    found: dict[str, Callable[[User], Float32]] = {
        name: partial(readers.mean, way, 0.0) for name, way in means.items()
    }
    for weight in (1.0, 3.0):
        found[f"a search as {weight:g} click{'s' if weight > 1 else ''}"] = partial(
            readers.mean, served, weight
        )
    for count in (2, 3, 4):
        found[f"{count} interests"] = partial(readers.interests, served, count)
    return found


def compare_doctors(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path | None,
    progress: Progress = silent,
) -> Ablation:
    """Every way on the last fifth of the events; an item scores its likest interest's cosine.

    Raises:
        DataError: the events cannot be split in time.
    """
    split = TemporalSplit.of(dataset)
    judged = period(dataset, split.test_start, split.end)
    readers = _readers(dataset, judged, encoder, cache, progress)
    catalogue = readers.item_vectors[[readers.item_rows[item] for item in judged.catalogue]]
    values: dict[str, dict[str, Float64]] = {}
    for name, way in ways(readers).items():
        scores = np.stack([(catalogue @ way(user).T).max(axis=1) for user in readers.users])
        values[name] = _figures(judged, top_items(scores, judged.seen, DEEPEST))
        progress(len(values), len(ways(readers)), "ways judged")
    summary = (
        f"{len(judged.users):,} doctors and what they wanted from {split.test_start:%Y-%m-%d}, of "
        f"{len(judged.catalogue):,} items; encoder {encoder.version}."
    )
    return Ablation.of(summary, values)


def _figures(judged: Period, best: Int64) -> dict[str, Float64]:
    hits, n_wanted = hits_of(best, judged.wanted), wanted_counts(judged.wanted)
    return {
        f"nDCG@{K}": ndcg(hits[:, :K], n_wanted),
        f"recall@{DEEPEST}": recall(hits, n_wanted),
    }
