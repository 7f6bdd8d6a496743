"""Queries with judged items: what retrieval is measured on. Never training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.interchange import QRELS, QUERIES

_HEADER = "query_id\titem_id\trelevance"


@dataclass(frozen=True, slots=True)
class Query:
    """One query; ``split`` is the data set's own: train, dev or test."""

    query_id: str
    text: str
    split: str
    answer: str = ""
    """The data set's answer in words, where it has one."""
    decision: str = ""
    """The same in a word: yes, no or maybe."""


@dataclass(frozen=True)
class JudgedQueries:
    """Queries and judgements (query id, item id, relevance from 0); some queries have none."""

    queries: Sequence[Query]
    judgements: Sequence[tuple[str, str, int]]

    def write(self, folder: Path) -> None:
        """Writes ``queries.jsonl`` and ``qrels.tsv`` into ``folder``."""
        lines = (json.dumps(asdict(query), ensure_ascii=False) for query in self.queries)
        (folder / QUERIES).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        rows = [_HEADER, *("\t".join(map(str, row)) for row in self.judgements)]
        (folder / QRELS).write_text("\n".join(rows) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> JudgedQueries:
        """Reads what :meth:`write` wrote.

        Raises:
            NotFoundError: the folder holds no queries or judgements.
            DataError: a file is damaged.
        """
        try:
            # Not splitlines: texts may hold other line separators, JSON writes them raw.
            lines = (folder / QUERIES).read_text("utf-8").split("\n")
            header, *rows = (folder / QRELS).read_text("utf-8").split("\n")
            if header != _HEADER:
                raise ValueError(f"{QRELS} starts with {header!r}")
            cells = [row.split("\t") for row in rows if row]
            return cls(
                [Query(**json.loads(line)) for line in lines if line],
                [(query, item, int(relevance)) for query, item, relevance in cells],
            )
        except FileNotFoundError as error:
            raise NotFoundError(f"no judged queries in {folder}: {error.filename}") from error
        except (ValueError, TypeError) as error:
            raise DataError(f"the judged queries in {folder} are damaged: {error}") from error
