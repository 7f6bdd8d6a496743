"""The doctors of a world and the graph between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recmesh.offline.world.columns import named, numbered
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.group_sampler import GroupSampler
from recmesh.offline.world.lexicon import COUNTRIES, SPECIALTIES, TOPICS
from recmesh.storage.interchange import EDGES, USERS

TOPIC_SPECIALTY = np.array([t.specialty for t in TOPICS])


@dataclass(frozen=True)
class Population:
    """Doctors, and their directed edges sorted by source; rows correspond."""

    table: pa.Table
    specialty: NDArray[np.int64]  # [users], the main one
    topic: NDArray[np.int64]  # [users], favourite row of TOPICS
    country: NDArray[np.int64]  # [users], rows of COUNTRIES
    consents_sponsored: NDArray[np.bool_]  # [users]
    activity: NDArray[np.float64]  # [users], sessions a day
    edges: pa.Table
    source: NDArray[np.int64]  # [edges]
    target: NDArray[np.int64]  # [edges]
    follow: NDArray[np.bool_]  # [edges], else colleagues
    created: NDArray[np.float64]  # [edges], days since the start


def _graph(
    config: WorldConfig,
    specialty: NDArray[np.int64],
    country: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges: each picks a circle (both shared, specialty, country, all), then a doctor in it."""
    n = len(specialty)
    degree = rng.poisson(config.follows * rng.lognormal(-0.32, 0.8, n))
    source = np.repeat(np.arange(n), degree)
    fame, always = rng.pareto(2.0, n) + 0.2, np.zeros(n)
    circles = (specialty * len(COUNTRIES) + country, specialty, country, np.zeros(n, np.int64))
    choice = rng.choice(len(circles), len(source), p=[0.45, 0.3, 0.15, 0.1])
    target = np.empty_like(source)
    for row, circle in enumerate(circles):
        mine = choice == row
        sampler = GroupSampler(circle, fame, always)
        target[mine] = sampler.draw(circle[source[mine]], np.zeros(int(mine.sum())), rng)
    pairs = np.unique(source * n + target)
    source, target = pairs // n, pairs % n
    return source[source != target], target[source != target]


def populate(config: WorldConfig, rng: np.random.Generator) -> Population:
    """Draws doctors and edges."""
    n, codes = config.doctors, list(COUNTRIES)
    specialty = rng.integers(0, len(SPECIALTIES), n)
    second = np.where(rng.random(n) < 0.3, rng.integers(0, len(SPECIALTIES), n), specialty)
    per = len(TOPICS) // len(SPECIALTIES)
    topic = np.argsort(TOPIC_SPECIALTY, kind="stable")[specialty * per + rng.integers(0, per, n)]
    country = rng.choice(len(codes), n, p=[0.2, 0.17, 0.16, 0.2, 0.1, 0.09, 0.05, 0.03])
    activity = rng.lognormal(-(config.activity_sigma**2) / 2, config.activity_sigma, n)
    sponsored = rng.random(n) < 0.8
    ids = numbered("d", 0, n, 6)
    two = np.stack([specialty, second], axis=1)
    kept = np.stack([np.ones(n, bool), specialty != second], axis=1)
    ends = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    languages = list(COUNTRIES.values())
    interests = [f"{t.name}, {t.procedures[0]}" for t in TOPICS]
    users = pa.table(
        {
            "user_id": ids,
            "specialties": pa.ListArray.from_arrays(ends, named(SPECIALTIES, two[kept])),
            "country": named(codes, country),
            "language": named(languages, country),
            "interests": named(interests, topic),
            "consents_personalisation": rng.random(n) < 0.92,
            "consents_sponsored": sponsored,
            "registered_at": config.timestamps(rng.uniform(-720, -config.history_days, n)),
        },
        schema=USERS.columns,
    )
    source, target = _graph(config, specialty, country, rng)
    follow = rng.random(len(source)) < 0.6
    created = rng.uniform(-config.history_days, config.days, len(source))
    edges = pa.table(
        {
            "source_user_id": ids.take(pa.array(source)),
            "target_user_id": ids.take(pa.array(target)),
            "edge_type": named(("colleague", "follow"), follow.astype(np.int64)),
            "weight": (0.2 + rng.gamma(2.0, 0.4, len(source))).astype(np.float32),
            "created_at": config.timestamps(created),
        },
        schema=EDGES.columns,
    )
    return Population(
        users, specialty, topic, country, sponsored, activity * config.sessions_per_day,
        edges, source, target, follow, created,
    )  # fmt: skip
