"""Examples for fine-tuning, from what a folder holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from recmesh.models.nlp.finetuning.examples import Examples
from recmesh.models.nlp.query_clicks import query_clicks
from recmesh.models.nlp.training import item_text
from recmesh.offline.search.collection import EARLIER_SPLIT, SearchCollection
from recmesh.storage.dataset import MANIFEST, Dataset
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.interchange import CITATIONS, QUERIES


class Source(StrEnum):
    """Where anchors and answers come from."""

    QUERIES = "queries"
    """Training queries and their relevant items, by grade."""
    TITLES = "titles"
    """An item's title and its text: question and answer, headline and abstract."""
    CITATIONS = "citations"
    """A text and those it cites."""
    CLICKS = "clicks"
    """Searches and what was clicked next, by count."""


def read_examples(
    folder: Path,
    source: Source | None = None,
    opened: Callable[[Path], Dataset] = Dataset.open,
) -> Examples:
    """Reads examples from an interchange folder, NFCorpus as published, or an ingested data set.

    Args:
        folder: the data.
        source: what to learn from; by default clicks of an ingested data set, else judged
            queries, else citations, else titles, whichever there is first.
        opened: opens an ingested data set, with what was written and erased since.

    Raises:
        NotFoundError: the folder lacks the source.
        DataError: it has the source, but no example.
    """
    chosen = source or _best_source(folder)
    ingested = opened(folder) if (folder / MANIFEST).is_file() else None
    if chosen is Source.CLICKS:
        # Of no data set: its error says what to do.
        examples = _from_clicks(ingested or Dataset.open(folder))
    elif chosen is Source.QUERIES:
        examples = _from_queries(folder)
    elif chosen is Source.CITATIONS:
        examples = _from_citations(folder, ingested)
    else:
        examples = _from_titles(folder, ingested)
    if not examples.anchors:
        raise DataError(f"{folder} has no examples in its {chosen.value}")
    return examples


def _best_source(folder: Path) -> Source:
    if (folder / MANIFEST).is_file():
        return Source.CLICKS
    if (folder / QUERIES).is_file() or not (folder / "items.parquet").is_file():
        return Source.QUERIES
    return Source.CITATIONS if (folder / CITATIONS).is_file() else Source.TITLES


def _items(folder: Path, ingested: Dataset | None) -> list[dict[str, Any]]:
    if ingested is not None:
        return list(ingested.items.to_pylist())
    file = folder / "items.parquet"
    if not file.is_file():
        raise NotFoundError(f"{file} is missing; run: recmesh datasets convert")
    return list(pq.read_table(file).to_pylist())


def _of(links: Iterable[tuple[str, Mapping[str, float]]], texts: Mapping[str, str]) -> Examples:
    """From anchors' texts with weights by item id; an anchor may come several times."""
    rows = {item_id: row for row, item_id in enumerate(texts)}
    answered: dict[str, dict[int, float]] = {}
    for anchor, weights in links:
        answered.setdefault(anchor, {}).update(
            {rows[item_id]: float(weight) for item_id, weight in weights.items()}
        )
    return Examples(list(answered), list(texts.values()), list(answered.values()))


def _text(item: Mapping[str, Any]) -> str:
    return item_text(str(item["title"]), str(item.get("abstract") or ""))


def _from_queries(folder: Path) -> Examples:
    # The published NFCorpus has its training queries beside each collection; the dev one will do.
    split = EARLIER_SPLIT if (folder / QUERIES).is_file() else "dev"
    collection = SearchCollection.load(folder, split)
    asked: Sequence[tuple[str, Mapping[str, float]]] = collection.earlier
    if split == EARLIER_SPLIT:
        texts = [query.text for query in collection.queries]
        asked = list(zip(texts, collection.grades, strict=True))
    return _of(asked, dict(zip(collection.item_ids, collection.texts, strict=True)))


def _from_titles(folder: Path, ingested: Dataset | None) -> Examples:
    items = [
        (str(item["title"]), str(item.get("body") or item.get("abstract") or ""))
        for item in _items(folder, ingested)
    ]
    # Equal texts are one text: an answer given twice is no negative of itself.
    texts = {text: text for _, text in items if text}
    return _of([(title, {text: 1.0}) for title, text in items if text], texts)


def _from_citations(folder: Path, ingested: Dataset | None) -> Examples:
    file = folder / CITATIONS
    if not file.is_file():
        raise NotFoundError(f"{file} is missing")
    texts = {str(item["item_id"]): _text(item) for item in _items(folder, ingested)}
    links: list[tuple[str, dict[str, float]]] = []
    for line in file.read_text("utf-8").split("\n")[1:]:
        citing, _, cited = line.partition("\t")
        if citing in texts and cited in texts and citing != cited:
            links.append((texts[citing], {cited: 1.0}))
    return _of(links, texts)


def _from_clicks(dataset: Dataset) -> Examples:
    texts = {str(item["item_id"]): _text(item) for item in dataset.items.to_pylist()}
    return _of([*query_clicks(dataset).items()], texts)
