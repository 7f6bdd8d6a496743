"""PubMedQA (labelled part): abstracts as items, each one's question as a query for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recmesh.offline.datasets.conversion import Conversion
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query


def _item(item_id: str, paper: dict[str, Any]) -> dict[str, Any]:
    # The question is the paper's own title or made from it, so it must not be the item's:
    # the abstract's first sentence is, and the rest follows it.
    text = " ".join(paper["CONTEXTS"])
    title, stop, rest = text.partition(". ")
    year = paper["YEAR"]
    return {
        "item_id": item_id,
        "content_type": "article",
        "title": title + stop.strip(),
        "abstract": rest,
        "topics": paper["MESHES"],
        "language": "en",
        # Only the year is known; its first day stands for it.
        "published_at": datetime(int(year), 1, 1, tzinfo=UTC) if year else None,
    }


def convert(source: Path) -> Conversion:
    """Folder with ``data/ori_pqal.json``; ids are PubMed's.

    The long answer is the abstract's conclusion; it goes with the query, not the item. The
    500 questions of ``data/test_ground_truth.json`` are the split "test", others "train".
    """
    papers = json.loads((source / "data" / "ori_pqal.json").read_text("utf-8"))
    test = json.loads((source / "data" / "test_ground_truth.json").read_text("utf-8"))
    queries = [
        Query(
            query_id=item_id,
            text=paper["QUESTION"],
            split="test" if item_id in test else "train",
            answer=paper["LONG_ANSWER"],
            decision=paper["final_decision"],
        )
        for item_id, paper in papers.items()
    ]
    items = [_item(item_id, paper) for item_id, paper in papers.items()]
    judgements = [(item_id, item_id, 1) for item_id in papers]
    return Conversion({"items": items}, queries=JudgedQueries(queries, judgements))
