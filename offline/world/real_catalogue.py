"""Real items as a world's catalogue: their topics follow from their texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recmesh.offline.world.catalogue import HALF_LIVES, Catalogue
from recmesh.offline.world.columns import Ints, lists_of_one
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.lexicon import COUNTRIES, SPECIALTIES, TOPICS
from recmesh.offline.world.text_space import (
    directions,
    named_topics,
    nearest_topics,
    word_vectors,
)
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.interchange import ITEMS
from recmesh.storage.row_validation import check_rows
from recmesh.storage.source_file import SUFFIXES, read_chunks


def _read(folder: Path) -> pa.Table:
    files = (folder / f"items{suffix}" for suffix in SUFFIXES)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise NotFoundError(f"no items.parquet, items.csv or items.jsonl in {folder}")
    parts = []
    try:
        chunks = list(read_chunks(file, ITEMS))
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    for chunk in chunks:
        table, reasons = check_rows(ITEMS, chunk.cells, len(chunk.lines), csv=file.suffix == ".csv")
        bad = [(chunk.lines[row], reason) for row, reason in reasons.items()]
        bad += [(line, reason) for line, reason, _ in chunk.broken]
        if bad:
            line, reason = min(bad)
            raise DataError(f"{file} line {line} breaks the format: {reason}")
        parts.append(table)
    if not sum(part.num_rows for part in parts):
        raise DataError(f"items in {folder} are empty")
    return pa.concat_tables(parts)


def _days(column: pa.ChunkedArray, config: WorldConfig) -> NDArray[np.float64]:
    millis = pc.cast(column, pa.int64()).to_numpy().astype(np.float64)
    return np.asarray((millis - config.start.timestamp() * 1000) / 86_400_000)


def _texts(table: pa.Table, *columns: str) -> pa.Array:
    labels = pc.binary_join(table["topics"], " ")
    texts = pc.binary_join_element_wise(*(table[name] for name in columns), labels, " ")
    return pc.utf8_lower(texts).combine_chunks()


def _subjects(table: pa.Table) -> pa.Array:
    """Items on one subject share a number: their first label, where the title names it.

    Questions on one disease are such items; without this, texts would be alike by the kind
    of question that they answer.
    """
    titles = pc.utf8_lower(table["title"]).to_pylist()
    labels = [labels[0].lower() if labels else "" for labels in table["topics"].to_pylist()]
    subjects = [
        label if label and label in title else row
        for row, (label, title) in enumerate(zip(labels, titles, strict=True))
    ]
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    return pa.array([numbers[subject] for subject in subjects])


def _topics(table: pa.Table) -> tuple[Ints, Ints]:
    """Topics that the text of an item's subject names, and those with the nearest topic too.

    Both ``[items]``, -1: none.
    """
    texts = pa.table(
        {"subject": _subjects(table), "text": _texts(table, "title", "abstract", "body")}
    )
    pooled = texts.group_by("subject", use_threads=False).aggregate([("text", "list")])
    whole = pc.binary_join(pooled["text_list"], " ").combine_chunks()
    named = named_topics(whole)
    near = nearest_topics(word_vectors(whole), named)
    subject = texts["subject"].to_numpy()
    return named[subject], near[subject]


def _fill(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(column)
    return table.set_column(at, ITEMS.columns.field(column), values)


def real(
    folder: Path, config: WorldConfig, rng: np.random.Generator, sample: int | None = None
) -> Catalogue:
    """Items of an interchange folder.

    Texts of one subject are taken together. They get the topic whose terms they name most
    often; else that of the most similar mean text; else, where they share no word with any,
    a random one. How many items each is in :attr:`Catalogue.found`. Labels and dates of the
    items stay; where they have none, the topic named becomes the label, and a date is drawn.

    Args:
        sample: number of items to draw, evenly; None or more than there are: all.

    Raises:
        NotFoundError: the folder holds no items.
        DataError: the items break the format, or there are none.
    """
    table = _read(folder)
    if sample is not None and sample < table.num_rows:
        table = table.take(np.sort(rng.choice(table.num_rows, sample, replace=False)))
    n = table.num_rows
    named, near = _topics(table)
    topic = np.where(near >= 0, near, rng.integers(0, len(TOPICS), n))
    for column, names, rows in (
        ("topics", [t.name for t in TOPICS], named),
        ("specialties", SPECIALTIES, np.array([*(t.specialty for t in TOPICS), -1])[named]),
    ):
        old = table[column].combine_chunks()
        bare = pa.array((pc.list_value_length(old).to_numpy() == 0) & (named >= 0))
        table = _fill(table, column, pc.if_else(bare, lists_of_one(names, rows), old))
    published = _days(table["published_at"], config)
    drawn = rng.uniform(-config.history_days, config.days, n)
    published = np.where(np.isnan(published), drawn, published)
    table = _fill(table, "published_at", config.timestamps(published))
    expires = _days(table["expires_at"], config)
    bits = {code: 1 << bit for bit, code in enumerate(COUNTRIES)}
    country = [
        sum(bits.get(c, 0) for c in codes) if codes else -1
        for codes in table["countries"].to_pylist()
    ]
    half_lives = [
        HALF_LIVES.get(k, HALF_LIVES["article"]) for k in table["content_type"].to_pylist()
    ]
    return Catalogue(
        table,
        topic,
        published,
        np.where(np.isnan(expires), np.inf, expires),
        np.array(country, np.int64),
        np.array(half_lives),
        directions(word_vectors(_texts(table, "title", "abstract")), config.dim, rng),
        {
            "topics named in the text": int((named >= 0).sum()),
            "topics of the most similar texts": int(((named < 0) & (near >= 0)).sum()),
            "topics drawn at random": int((near < 0).sum()),
        },
    )
