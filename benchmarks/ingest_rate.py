"""How fast ingestion reads and checks good files: rows per CPU second, by format.

python benchmarks/ingest_rate.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from recmesh.offline.world.columns import joined, named, numbered
from recmesh.storage.interchange import EVENTS
from recmesh.storage.row_validation import check_rows
from recmesh.storage.source_file import read_chunks

ROWS = 1_000_000


def _events() -> pa.Table:
    rng = np.random.default_rng(0)
    seconds = rng.integers(0, 90 * 86_400, ROWS)
    times = (np.datetime64("2026-01-01T00:00:00", "s") + seconds).astype(str)
    return pa.table(
        {
            "event_id": numbered("e", 0, ROWS, 7),
            "user_id": numbered("d", 0, 10_000, 5).take(pa.array(rng.integers(0, 10_000, ROWS))),
            "item_id": numbered("i", 0, 100_000, 6).take(pa.array(rng.integers(0, 100_000, ROWS))),
            "event_type": named(("impression", "click", "dwell"), rng.integers(0, 3, ROWS)),
            "time": joined(pa.array(times), "Z"),
            "rank": rng.integers(0, 10, ROWS),
            "dwell_s": np.round(rng.random(ROWS) * 100, 2),
            # Commas make every text quoted, as many writers do.
            "query": named(("heart failure, acute", ""), (rng.random(ROWS) < 0.95).astype(int)),
        }
    )


def _write_jsonl(table: pa.Table, file: Path) -> None:
    members = [part for name in table.column_names for part in _member(table, name)]
    with file.open("w") as stream:
        stream.writelines(f"{{{row[2:]}}}\n" for row in joined(*members).to_pylist())


def _member(table: pa.Table, name: str) -> tuple[str, pa.Array, str]:
    column = table[name].combine_chunks()
    quote = '"' if pa.types.is_string(column.type) else ""
    return f', "{name}": {quote}', column.cast(pa.string()), quote


def main() -> None:
    """Prints one line a format."""
    table = _events()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"events{suffix}" for suffix in (".parquet", ".csv", ".jsonl")]
        pq.write_table(table, files[0])
        pacsv.write_csv(table, files[1])
        _write_jsonl(table, files[2])
        for file in files:
            start = time.process_time()
            rows = bad = 0
            for chunk in read_chunks(file, EVENTS):
                _, reasons = check_rows(
                    EVENTS, chunk.cells, len(chunk.lines), csv=file.suffix == ".csv"
                )
                rows += len(chunk.lines)
                bad += len(reasons) + len(chunk.broken)
            spent = time.process_time() - start
            rate = f"{spent:.2f} CPU s, {rows / spent:,.0f} rows/s"
            print(f"{file.suffix[1:]:8} {rows:,} rows, {bad} bad, {rate}")


if __name__ == "__main__":
    main()
