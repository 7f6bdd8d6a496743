"""The items of a world: generated from the lexicon, or real ones read from a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.lexicon import COUNTRIES, DESIGNS, SPECIALTIES, TOPICS
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.interchange import ITEMS

HALF_LIVES = {"article": 30.0, "video": 20.0, "case": 45.0, "guideline": 180.0}
"""Freshness half-life by content type, days; other types as articles."""


@dataclass(frozen=True)
class Catalogue:
    """Items and what the simulation needs of them; rows correspond."""

    table: pa.Table
    topic: NDArray[np.int64]  # [items], rows of TOPICS
    published: NDArray[np.float64]  # [items], days since the start
    expires: NDArray[np.float64]  # [items], inf: never
    country: NDArray[np.int64]  # [items], bit set of COUNTRIES; -1: all
    half_life: NDArray[np.float64]  # [items], days


def _text(topic: int, kind: str, rng: np.random.Generator) -> tuple[str, str]:
    t = TOPICS[topic]
    pick = rng.integers(0, 2, 6)
    design = DESIGNS[int(rng.integers(len(DESIGNS)))]
    n, change = int(rng.integers(40, 4000)), int(rng.integers(8, 45))
    condition, other = t.conditions[pick[0]], t.conditions[1 - pick[0]]
    drug, rival = t.drugs[pick[1]], t.drugs[1 - pick[1]]
    procedure = t.procedures[pick[2]]
    title = (
        f"{drug.capitalize()} in {t.name} with {condition}",
        f"{procedure.capitalize()} for {t.name}: a {kind} on {condition}",
    )[pick[3]]
    opening = (
        f"Patients with {t.name} often present with {condition} or {other}, and the best "
        f"management is debated.",
        f"The role of {procedure} in {t.name} complicated by {condition} remains uncertain.",
    )[pick[4]]
    return title, (
        f"{opening} In this {design} of {n} patients in {SPECIALTIES[t.specialty]}, {drug} was "
        f"compared with {rival}, guided by {procedure}. The primary outcome, progression of "
        f"{other}, fell by {change} per cent over twelve months. "
        f"We discuss adverse events, patient selection and what this {kind} means for practice."
    )


def generated(config: WorldConfig, rng: np.random.Generator) -> Catalogue:
    """Items written from the lexicon, a tenth licensed in some countries only."""
    n = config.items
    topic = rng.integers(0, len(TOPICS), n)
    kinds = rng.choice(list(HALF_LIVES), n, p=[0.6, 0.15, 0.15, 0.1]).tolist()
    published = np.sort(rng.uniform(-config.history_days, config.days, n))
    expires = np.where(rng.random(n) < 0.08, published + rng.uniform(60, 360, n), np.nan)
    codes = list(COUNTRIES)
    sets = rng.integers(1, 2 ** len(codes) - 1, n)
    country = np.where(rng.random(n) < 0.1, sets, -1)
    licences = [
        [] if s < 0 else [c for b, c in enumerate(codes) if s >> b & 1] for s in country.tolist()
    ]
    texts = [_text(t, k, rng) for t, k in zip(topic.tolist(), kinds, strict=True)]
    sponsored = (rng.random(n) < 0.05).tolist()
    columns = {
        "item_id": [f"i{row:07d}" for row in range(n)],
        "content_type": kinds,
        "title": [title for title, _ in texts],
        "abstract": [abstract for _, abstract in texts],
        "body": [""] * n,
        "topics": [[TOPICS[t].name] for t in topic],
        "specialties": [[SPECIALTIES[TOPICS[t].specialty]] for t in topic],
        "language": ["en"] * n,
        "countries": licences,
        "authors": [[] for _ in range(n)],
        "published_at": config.timestamps(published),
        "expires_at": config.timestamps(expires),
        "sponsor": [
            f"{TOPICS[t].drugs[0].capitalize()} maker" if s else ""
            for t, s in zip(topic, sponsored, strict=True)
        ],
    }
    return Catalogue(
        pa.table(columns, schema=ITEMS.columns),
        topic,
        published,
        np.where(np.isnan(expires), np.inf, expires),
        country,
        np.array([HALF_LIVES[k] for k in kinds]),
    )


def _read(folder: Path) -> pa.Table:
    readers = {"parquet": pq.read_table, "csv": pacsv.read_csv, "jsonl": pajson.read_json}
    for suffix, read in readers.items():
        if (file := folder / f"items.{suffix}").is_file():
            table = read(file)
            break
    else:
        raise NotFoundError(f"no items.parquet, items.csv or items.jsonl in {folder}")
    columns = []
    try:
        for field in ITEMS.columns:
            if field.name not in table.column_names:
                empty: object = [] if pa.types.is_list(field.type) else None
                value: object = "" if pa.types.is_string(field.type) else empty
                columns.append(pa.array([value] * table.num_rows, field.type))
                continue
            column = table[field.name]
            if pa.types.is_list(field.type) and not pa.types.is_list(column.type):
                text = pc.fill_null(column.cast(pa.string()), "")
                column = pa.array([[v for v in s.split("|") if v] for s in text.to_pylist()])
            columns.append(column.cast(field.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"items in {folder} break the format: {error}") from error
    return pa.table(columns, schema=ITEMS.columns)


def _days(column: pa.ChunkedArray, config: WorldConfig) -> NDArray[np.float64]:
    millis = pc.cast(column, pa.int64()).to_numpy().astype(np.float64)
    return np.asarray((millis - config.start.timestamp() * 1000) / 86_400_000)


def real(folder: Path, config: WorldConfig, rng: np.random.Generator) -> Catalogue:
    """Items of an interchange folder, their topics found by the lexicon's terms.

    Texts that name no topic get a random one in the latent space, and keep their labels.

    Raises:
        NotFoundError: the folder holds no items.
        DataError: the items break the format, or there are none.
    """
    table = _read(folder)
    if table.num_rows == 0:
        raise DataError(f"items in {folder} are empty")
    lists = (pc.binary_join(table["topics"].combine_chunks(), " "),)
    texts = [pc.fill_null(column, "") for column in (table["title"], table["abstract"], *lists)]
    text = pc.utf8_lower(pc.binary_join_element_wise(*texts, " "))
    hits = np.zeros((len(TOPICS), table.num_rows), np.int64)
    for row, topic in enumerate(TOPICS):
        pattern = r"\b(" + "|".join(re.escape(term.lower()) for term in topic.terms) + r")\b"
        hits[row] = pc.count_substring_regex(text, pattern).to_numpy()
    found = hits.max(axis=0) > 0
    topics = np.where(found, hits.argmax(axis=0), rng.integers(0, len(TOPICS), table.num_rows))
    published = _days(table["published_at"], config)
    drawn = rng.uniform(-config.history_days, config.days, table.num_rows)
    published = np.where(np.isnan(published), drawn, published)
    expires = _days(table["expires_at"], config)
    names = {"topics": [t.name for t in TOPICS]}
    names["specialties"] = [SPECIALTIES[t.specialty] for t in TOPICS]
    for column, labels in names.items():
        inferred = [
            old or ([labels[t]] if hit else [])
            for old, t, hit in zip(table[column].to_pylist(), topics, found, strict=True)
        ]
        at = table.schema.get_field_index(column)
        table = table.set_column(at, ITEMS.columns.field(column), pa.array(inferred))
    at = table.schema.get_field_index("published_at")
    stamps = config.timestamps(published)
    table = table.set_column(at, ITEMS.columns.field("published_at"), stamps)
    bits = {code: 1 << bit for bit, code in enumerate(COUNTRIES)}
    country = [
        sum(bits.get(c, 0) for c in codes) if codes else -1
        for codes in table["countries"].to_pylist()
    ]
    kinds = table["content_type"].to_pylist()
    return Catalogue(
        table,
        topics,
        published,
        np.where(np.isnan(expires), np.inf, expires),
        np.array(country, np.int64),
        np.array([HALF_LIVES.get(k, HALF_LIVES["article"]) for k in kinds]),
    )
