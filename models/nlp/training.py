"""Makes the language model's artifact: vectors of all items, specialties and earlier queries,
and the words to correct a query's spelling by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.models.model import Float32, TrainedModel, TrainOptions, User
from recmesh.models.nlp.doctor_embedding import WEIGHTS, DoctorEmbedding
from recmesh.models.nlp.encoder import Encoder, resolved
from recmesh.models.nlp.query_clicks import query_clicks
from recmesh.models.nlp.query_log import MIN_USERS, kept, packed
from recmesh.models.nlp.spelling import vocabulary
from recmesh.models.nlp.truncation import dimensions, space, truncated
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.storage.artifacts import ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import EVENT_TYPES, POSITIVE_EVENT_TYPES

HALF_LIVES_DAYS = (7.0, 30.0, 90.0)
PROFILE_EVENTS = 2.0
TUNING_USERS = 300


def item_text(title: str, abstract: str) -> str:
    """What is embedded of an item, and what is indexed for words."""
    return f"{title}. {abstract}".strip() if abstract else title


def item_texts(dataset: Dataset) -> list[str]:
    """:func:`item_text` of every item, in the data set's order."""
    items = dataset.items.select(["title", "abstract"]).to_pylist()
    return [item_text(item["title"], item["abstract"]) for item in items]


def distinct(column: pa.ChunkedArray) -> set[str]:
    """Entries of a column of lists, without blanks."""
    return set(pc.unique(pc.list_flatten(column)).to_pylist()) - {"", None}


@dataclass(frozen=True, slots=True)
class Texts:
    """What is embedded of a data set."""

    items: list[str]
    """In the data set's order."""
    specialties: list[str]
    """Those of items and of users, sorted."""
    queries: Mapping[str, Mapping[str, float]]
    """Queries that were asked, with the items that were clicked for each."""

    @property
    def all(self) -> list[str]:
        """Items, specialties, queries."""
        return [*self.items, *self.specialties, *self.queries]


def texts_to_embed(dataset: Dataset, until: datetime | None = None) -> Texts:
    """What training embeds; queries that were asked before ``until``."""
    return Texts(
        item_texts(dataset),
        sorted(distinct(dataset.items["specialties"]) | distinct(dataset.users["specialties"])),
        kept(query_clicks(dataset, until, min_users=MIN_USERS)),
    )


def train(dataset: Dataset, options: TrainOptions) -> TrainedModel:
    """Embeds items, specialties and earlier queries, and tunes how fast reading history fades.

    Parameters: ``encoder`` (a local Hugging Face folder), ``dim`` (its first dimensions only;
    0: all), ``cache`` (folder that keeps vectors of unchanged texts), ``half_life_days`` (skips
    the tuning), ``profile_events``.

    Raises:
        InvalidRequestError: the encoder has fewer dimensions than ``dim``.
    """
    parameters = options.parameters
    # What serves must be this one, whatever the default has become by then.
    choice = resolved(str(parameters.get("encoder", "")))
    encoder = Encoder.choose(choice)
    cache = Path(str(parameters["cache"])) if parameters.get("cache") else None
    item_ids: list[str] = dataset.items["item_id"].to_pylist()
    texts = texts_to_embed(dataset, options.until)
    vectors = encode_cached(encoder, texts.all, cache, options.progress)
    dim = dimensions(int(parameters.get("dim", 0)), vectors.shape[1])
    item_vectors, specialty_vectors, query_vectors = np.split(
        truncated(vectors, dim), [len(texts.items), len(texts.items) + len(texts.specialties)]
    )
    mean, covariance = _moments(item_vectors)
    words, word_counts = vocabulary(texts.all)

    tuning = _tuning_set(dataset, options, item_ids)
    profile_events = float(parameters.get("profile_events", PROFILE_EVENTS))
    by_specialty = dict(zip(texts.specialties, specialty_vectors, strict=True))
    tried = (
        (float(parameters["half_life_days"]),)
        if "half_life_days" in parameters
        else HALF_LIVES_DAYS
    )
    percentiles = {
        half_life: _mean_percentile(
            DoctorEmbedding(half_life, profile_events), tuning, item_ids, item_vectors, by_specialty
        )
        for half_life in tried
    }
    half_life = max(tried, key=lambda value: percentiles[value])

    card = ModelCard(
        model="nlp",
        owner="recmesh maintainers",
        summary="Sentence embeddings of items; doctors as the mean of what they read and declare",
        dataset_version=dataset.version,
        trained_until=options.until.isoformat() if options.until else "",
        seed=options.seed,
        parameters={
            "encoder": choice,
            "embedding_version": space(encoder.version, dim),
            "encoder_version": encoder.version,
            "dim": dim,
            "half_life_days": half_life,
            "profile_events": profile_events,
        },
        metrics={},
        limitations=(
            "Reads the first 128 tokens of title and abstract. Knows no popularity. The packaged "
            "encoder is English and general, not medical. The half-life is chosen on each "
            f"tuning user's last event before trained_until (mean percentile "
            f"{percentiles[half_life]:.3f} over {len(tuning)} users): no held-out metric. "
            f"Remembers {len(texts.queries)} queries that at least {MIN_USERS} doctors asked."
        ),
    )
    return TrainedModel(
        card=card,
        tensors={
            "item_vectors": item_vectors,
            "specialty_vectors": specialty_vectors,
            "mean": mean,
            "covariance": covariance,
            "word_counts": word_counts,
            **packed(texts.queries, item_ids, query_vectors),
        },
        strings={
            "item_ids": item_ids,
            "specialties": texts.specialties,
            "queries": list(texts.queries),
            "words": words,
        },
    )


def _moments(vectors: Float32) -> tuple[Float32, Float32]:
    """Mean ``[dim]`` and covariance ``[dim, dim]`` over the rows."""
    dim = vectors.shape[1]
    if not len(vectors):
        return np.zeros(dim, np.float32), np.zeros((dim, dim), np.float32)
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    return mean.astype(np.float32), (centred.T @ centred / len(vectors)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Case:
    """A user as they were just before their last wanted item."""

    user: User
    target: str
    now_unix_s: int


def _tuning_set(dataset: Dataset, options: TrainOptions, item_ids: list[str]) -> list[_Case]:
    events = dataset.events
    if options.until is not None:
        events = events.filter(
            pc.less(events["time"], pa.scalar(options.until, events["time"].type))
        )
    known = pa.array(item_ids, pa.string())
    events = events.filter(pc.is_in(events["item_id"], value_set=known))
    profiles = dict(
        zip(
            dataset.users["user_id"].to_pylist(),
            dataset.users["specialties"].to_pylist(),
            strict=True,
        )
    )
    seconds = pc.divide(events["time"].cast(pa.int64()), 1000)
    histories: dict[str, list[tuple[str, int, int]]] = {}
    for user_id, item_id, name, time in zip(
        events["user_id"].to_pylist(),
        events["item_id"].to_pylist(),
        events["event_type"].to_pylist(),
        seconds.to_pylist(),
        strict=True,
    ):
        if EVENT_TYPES[name] in WEIGHTS:
            histories.setdefault(user_id, []).append((item_id, EVENT_TYPES[name], time))
    positive = {EVENT_TYPES[name] for name in POSITIVE_EVENT_TYPES}
    cases = []
    for user_id, history in histories.items():
        *past, (target, event_type, time) = history
        past = [event for event in past if event[0] != target]
        if past and event_type in positive:
            ids, types, times = zip(*past, strict=True)
            user = User(user_id, ids, types, times, tuple(profiles.get(user_id, ())))
            cases.append(_Case(user, target, time))
    if len(cases) > TUNING_USERS:
        chosen = np.random.default_rng(options.seed).choice(len(cases), TUNING_USERS, replace=False)
        cases = [cases[i] for i in sorted(chosen)]
    return cases


def _mean_percentile(
    doctor: DoctorEmbedding,
    cases: list[_Case],
    item_ids: list[str],
    item_vectors: Float32,
    specialty_vectors: dict[str, Float32],
) -> float:
    """Mean share of the catalogue that ranks below the item wanted next; 0.5 is chance."""
    rows = {item_id: row for row, item_id in enumerate(item_ids)}
    shares = []
    for case in cases:
        vector = doctor.embed(case.user, case.now_unix_s, rows, item_vectors, specialty_vectors)
        if vector is not None:
            cosines = item_vectors @ vector
            shares.append(float((cosines < cosines[rows[case.target]]).mean()))
    return float(np.mean(shares)) if shares else 0.5
