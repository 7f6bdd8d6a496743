"""What a converter gives: interchange tables, judged queries, links, and what it left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.offline.datasets.judged_queries import JudgedQueries
from recmesh.storage.interchange import CITATIONS, TABLES

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by table name; absent columns are empty."""


@dataclass(frozen=True)
class Conversion:
    """A converted data set, in memory."""

    rows: Rows
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Source rows that no table holds: reason, count. Reasons without rows may be given."""
    queries: JudgedQueries | None = None
    citations: Sequence[tuple[str, str]] = ()
    """Pairs of item ids: citing, cited."""

    def write(self, out: Path) -> ConversionReport:
        """Writes one Parquet file a table that has rows, and the extra files beside them."""
        out.mkdir(parents=True, exist_ok=True)
        for name, table in self.rows.items():
            given = {column for row in table for column in row}
            schema = pa.schema([f for f in TABLES[name].columns if f.name in given])
            pq.write_table(pa.Table.from_pylist(list(table), schema), out / f"{name}.parquet")
        counts = {name: len(table) for name, table in self.rows.items()}
        if self.queries:
            self.queries.write(out)
            counts["queries"] = len(self.queries.queries)
            counts["judgements"] = len(self.queries.judgements)
        if self.citations:
            lines = [f"{citing}\t{cited}\n" for citing, cited in self.citations]
            (out / CITATIONS).write_text("citing_item_id\tcited_item_id\n" + "".join(lines))
            counts["citations"] = len(self.citations)
        return ConversionReport(counts, {why: n for why, n in self.left_out.items() if n})


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """Rows written, by table or extra file, and source rows left out, by reason."""

    rows: dict[str, int]
    left_out: dict[str, int]

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self))
