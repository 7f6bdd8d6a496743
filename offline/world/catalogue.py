"""The items of a world, generated from the lexicon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recmesh.offline.world.columns import Ints, joined, lists_of, lists_of_one, named, numbered
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.lexicon import COUNTRIES, DESIGNS, SPECIALTIES, TOPICS
from recmesh.storage.interchange import ITEMS

HALF_LIVES = {"article": 30.0, "video": 20.0, "case": 45.0, "guideline": 180.0}
"""Freshness half-life by content type, days; other types as articles."""

BATCH = 100_000
"""Items whose texts are written at once: bounds the memory of the parts."""

_SPECIALTY = np.array([topic.specialty for topic in TOPICS])


@dataclass(frozen=True)
class Catalogue:
    """Items and what the simulation needs of them; rows correspond."""

    table: pa.Table
    topic: Ints  # [items], rows of TOPICS
    published: NDArray[np.float64]  # [items], days since the start
    expires: NDArray[np.float64]  # [items], inf: never
    country: Ints  # [items], bit set of COUNTRIES; -1: all
    half_life: NDArray[np.float64]  # [items], days
    text_direction: NDArray[np.float64] | None = None
    """[items, dim] of about unit variance, alike for alike texts; None: texts say no more
    than the topic."""
    found: Mapping[str, int] = field(default_factory=dict)
    """How the topics of real items were found, and of how many."""


def _texts(topic: Ints, kind: pa.Array, rng: np.random.Generator) -> tuple[pa.Array, pa.Array]:
    """Titles and abstracts of a batch."""
    n = len(topic)
    pick = rng.integers(0, 2, (5, n))
    design = named(DESIGNS, rng.integers(0, len(DESIGNS), n))
    patients = pa.array(rng.integers(40, 4000, n)).cast(pa.string())
    change = pa.array(rng.integers(8, 45, n)).cast(pa.string())
    name = named([t.name for t in TOPICS], topic)
    specialty = named(SPECIALTIES, _SPECIALTY[topic])
    conditions = [term for t in TOPICS for term in t.conditions]
    drugs = [term for t in TOPICS for term in t.drugs]
    procedures = [term for t in TOPICS for term in t.procedures]
    condition, other = (named(conditions, 2 * topic + p) for p in (pick[0], 1 - pick[0]))
    drug, rival = (named(drugs, 2 * topic + p) for p in (pick[1], 1 - pick[1]))
    procedure = named(procedures, 2 * topic + pick[2])
    a_kind = joined(pc.if_else(pc.starts_with(kind, "a"), "an ", "a "), kind)
    title = pc.if_else(
        pa.array(pick[3] == 0),
        joined(pc.utf8_capitalize(drug), " in ", name, " with ", condition),
        joined(pc.utf8_capitalize(procedure), " for ", name, ": ", a_kind, " on ", condition),
    )
    opening = pc.if_else(
        pa.array(pick[4] == 0),
        joined(
            "Patients with ", name, " often present with ", condition, " or ", other,
            ", and the best management is debated.",
        ),
        joined(
            "The role of ", procedure, " in ", name, " complicated by ", condition,
            " remains uncertain.",
        ),
    )  # fmt: skip
    return title, joined(
        opening, " In this ", design, " of ", patients, " patients in ", specialty, ", ", drug,
        " was compared with ", rival, ", guided by ", procedure,
        ". The primary outcome, progression of ", other, ", fell by ", change,
        " per cent over twelve months. We discuss adverse events, patient selection and what this ",
        kind, " means for practice.",
    )  # fmt: skip


def generated(config: WorldConfig, rng: np.random.Generator) -> Catalogue:
    """Items written from the lexicon, a tenth licensed in some countries only."""
    n = config.items
    topic = rng.integers(0, len(TOPICS), n)
    kind = rng.choice(len(HALF_LIVES), n, p=[0.6, 0.15, 0.15, 0.1])
    kinds = named(list(HALF_LIVES), kind)
    published = np.sort(rng.uniform(-config.history_days, config.days, n))
    expires = np.where(rng.random(n) < 0.08, published + rng.uniform(60, 360, n), np.nan)
    codes = list(COUNTRIES)
    sets = rng.integers(1, 2 ** len(codes) - 1, n)
    country = np.where(rng.random(n) < 0.1, sets, -1)
    licences = (np.maximum(country, 0)[:, None] >> np.arange(len(codes)) & 1).astype(bool)
    texts = [
        _texts(topic[start : start + BATCH], kinds.slice(start, BATCH), rng)
        for start in range(0, n, BATCH)
    ]
    makers = [f"{t.drugs[0].capitalize()} maker" for t in TOPICS]
    sponsor = np.where(rng.random(n) < 0.05, topic, -1)
    off_label = np.where(rng.random(n) < 0.05, rng.integers(1, 2 ** len(codes) - 1, n), 0)
    not_approved = (off_label[:, None] >> np.arange(len(codes)) & 1).astype(bool)
    columns = {
        "item_id": numbered("i", 0, n, 7),
        "content_type": kinds,
        "title": pa.chunked_array([title for title, _ in texts]),
        "abstract": pa.chunked_array([abstract for _, abstract in texts]),
        "body": pa.repeat("", n),
        "topics": lists_of_one([t.name for t in TOPICS], topic),
        "specialties": lists_of_one(SPECIALTIES, _SPECIALTY[topic]),
        "language": pa.repeat("en", n),
        "countries": lists_of(codes, licences),
        "authors": lists_of([], np.zeros((n, 0), bool)),
        "published_at": config.timestamps(published),
        "expires_at": config.timestamps(expires),
        "sponsor": named(makers, sponsor),
        "off_label_countries": lists_of(codes, not_approved),
    }
    return Catalogue(
        pa.table(columns, schema=ITEMS.columns),
        topic,
        published,
        np.where(np.isnan(expires), np.inf, expires),
        country,
        np.array(list(HALF_LIVES.values()))[kind],
    )
