"""NFCorpus: medical abstracts and judged title queries of nutritionfacts.org.

Each split is a collection of its own (``test/raw``, ``dev/raw``). The training split's
documents come only stemmed, in the top-level file, but nearly all are in the other two
collections: its queries come with each of them, as queries that were asked earlier.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recmesh.offline.datasets.conversion import Conversion
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query

LONGEST_TITLE = 20
"""Words of a title where nothing marks its end."""


def _lines(file: Path) -> Iterator[list[str]]:
    for line in file.read_text("utf-8").split("\n"):
        if line.strip():
            # The published description says "~"; the files hold tabs.
            yield line.rstrip("\r").split("\t")


def _item(item_id: str, text: str) -> dict[str, Any]:
    # Texts are token streams in which the word "abstract" parts title and abstract.
    title, mark, abstract = text.strip().partition(" abstract ")
    if not mark:
        words = text.split()
        title, abstract = " ".join(words[:LONGEST_TITLE]), " ".join(words[LONGEST_TITLE:])
    return {
        "item_id": item_id,
        "content_type": "article",
        "title": title.strip(),
        "abstract": abstract.strip(),
        "language": "en",
    }


def _judged(folder: Path, split: str) -> JudgedQueries:
    queries = [
        Query(query_id, text.strip(), split)
        for query_id, text in _lines(folder / "q-titles.queries")
    ]
    judgements = [
        (query_id, item_id, int(relevance))
        for query_id, _, item_id, relevance in _lines(folder / "s-3.qrel")
    ]
    return JudgedQueries(queries, judgements)


def convert(source: Path, split: str = "test") -> Conversion:
    """The documents of ``split`` (test or dev) as items, with its and train's title queries.

    Judgements are 1 (linked through a topic or another article) and 2 (linked directly).
    """
    items = [_item(*row) for row in _lines(source / split / "raw" / "d-collection.docs")]
    known = {item["item_id"] for item in items}
    queries: list[Query] = []
    kept: list[tuple[str, str, int]] = []
    left_out: dict[str, int] = {}
    for part in (split, "train"):
        judged = _judged(source / part / "raw", part)
        here = [row for row in judged.judgements if row[1] in known]
        queries += judged.queries
        kept += here
        left_out[f"{part} judgements of documents the {split} collection lacks"] = len(
            judged.judgements
        ) - len(here)
    return Conversion({"items": items}, left_out, JudgedQueries(queries, kept))
