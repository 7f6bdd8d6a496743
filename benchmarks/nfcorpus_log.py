"""NFCorpus as a data set whose training queries are a search log, to judge a mesh with one.

python benchmarks/nfcorpus_log.py NFCORPUS OUT [SPLIT]

Two readers ask each training query and click what was judged relevant, once a grade. Queries in
the very words of one of the split's are left out, as in `recmesh evaluate search`. The clicks are
made up, so train nothing but the language model on it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recmesh.offline.datasets.nfcorpus import convert
from recmesh.offline.search.collection import SearchCollection

READERS = ("reader-1", "reader-2")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def events(collection: SearchCollection) -> list[dict[str, Any]]:
    """Searches an hour apart, each followed by its clicks."""
    made: list[dict[str, Any]] = []
    for number, (query, grades) in enumerate(collection.earlier):
        time = FIRST + timedelta(hours=number)
        clicked = [item_id for item_id, grade in grades.items() for _ in range(grade)]
        for user_id in READERS:
            steps = [("search", query, "", time)]
            steps += [("click", "", item_id, time + timedelta(seconds=1)) for item_id in clicked]
            made += [
                {
                    "event_id": f"{user_id}-{number}-{step}",
                    "user_id": user_id,
                    "event_type": event_type,
                    "query": text,
                    "item_id": item_id,
                    "time": at,
                }
                for step, (event_type, text, item_id, at) in enumerate(steps)
            ]
    return made


def main(source: Path, out: Path, split: str = "dev") -> None:
    """Writes the data set."""
    conversion = convert(source, split)
    users = [{"user_id": user_id} for user_id in READERS]
    logged = {"users": users, "events": events(SearchCollection.load(source, split))}
    report = replace(conversion, rows={**conversion.rows, **logged}).write(out)
    print(report.as_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
