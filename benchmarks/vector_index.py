"""Measures vector indexes side by side on the same vectors: ``make bench-index``.

Every index answers the same queries; recall is against exact search in NumPy and is measured,
never assumed. CPU is of the client and of Milvus' process. The vectors are clustered, as
those of texts are: unit vectors around centres of their own, seeded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_choice import IndexChoice
from recmesh.storage.index_filter import AnyOf, IndexFilter
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.storage.unix_time import NEVER_UNIX_S
from recmesh.storage.vector_index import Float32, IndexQuery, VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX

CHOICES = {
    "FLAT": IndexChoice("FLAT", {}),
    "IVF_FLAT": IndexChoice("IVF_FLAT", {"nlist": 256}),
    "AUTOINDEX": IndexChoice("AUTOINDEX", {}),
    "HNSW": IndexChoice("HNSW", {"M": 24, "efConstruction": 200}),
    "HNSW_SQ": IndexChoice("HNSW_SQ", {"M": 24, "efConstruction": 200, "sq_type": "SQ8"}),
    "IVF_SQ8": IndexChoice("IVF_SQ8", {"nlist": 256}),
    "DISKANN": IndexChoice("DISKANN", {}),
}
PROBES: dict[str, list[dict[str, int]]] = {
    "IVF_FLAT": [{"nprobe": lists} for lists in (8, 32, 64)],
    "IVF_SQ8": [{"nprobe": lists} for lists in (8, 32, 64)],
}
"""How hard to look, of the kinds where recall depends on it; of the others as RecMesh does."""
EXACT = "exact, NumPy"
MILVUS_INDEX = "recmesh.storage.milvus_index"
NEIGHBOURS = 100
"""Recall is of so many nearest."""
WRITTEN_AT_ONCE = 5_000
TOPICS = 50
TOPIC = 7
SEARCH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Row:
    """One index at one size."""

    index: str
    rows: int
    build_s: float
    recall_at_100: float
    p50_ms_top_100: float
    p99_ms_top_100: float
    p50_ms_top_500: float
    p99_ms_top_500: float
    p50_ms_filtered_500: float
    filtered_recall_at_100: float
    """Among the rows of one topic in fifty."""
    p50_ms_hybrid_500: float
    client_cpu_ms: float
    """Of a search for 500."""
    server_cpu_ms: float
    memory_mb: float
    """Milvus' process, or the client's growth for the exact index."""


def clustered(count: int, dim: int, clusters: int, spread: float, seed: int) -> Float32:
    """Unit vectors ``[count, dim]`` around random centres.

    ``spread`` is the noise's length relative to the centre's: at 1, a vector's cosine with
    its centre is about 0.7.
    """
    drawn = np.random.default_rng(seed)
    centres = drawn.normal(size=(clusters, dim)) / np.sqrt(dim)
    # A few centres hold most vectors, as a few topics hold most articles.
    share = 1.0 / np.arange(1, clusters + 1)
    of = drawn.choice(clusters, count, p=share / share.sum())
    noise = drawn.normal(size=(count, dim)).astype(np.float32) / np.float32(np.sqrt(dim))
    made = centres[of].astype(np.float32) + np.float32(spread) * noise
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


ABSTRACT = "Some words of an abstract of usual length. " * 30


def catalogue(vectors: Float32) -> IndexRows:
    """Items with these vectors, a topic of fifty each, and words of a small vocabulary."""
    count = len(vectors)
    drawn = np.random.default_rng(2).zipf(1.3, (count, 12)) % 20_000
    return IndexRows(
        ITEM_INDEX,
        [f"i{n:07d}" for n in range(count)],
        vectors,
        [" ".join(f"w{word}" for word in words) for words in drawn.tolist()],
        {
            "content_type": ["article"] * count,
            "topics": [[f"t{n % TOPICS}"] for n in range(count)],
            "specialties": [["cardiology"]] * count,
            "language": ["en"] * count,
            "countries": [[]] * count,
            "published_at": np.arange(count),
            "expires_at": np.full(count, NEVER_UNIX_S),
            "sponsor": [""] * count,
            "campaign_ids": [[]] * count,
            "abstract": [ABSTRACT] * count,
            "embedding_version": ["bench"] * count,
            "content_hash": [""] * count,
        },
    )


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[tuple[VectorIndex, psutil.Process]]:
    """An index, and the process that holds its vectors."""
    if name == EXACT:
        yield ExactIndex(), psutil.Process()
        return
    with tempfile.TemporaryDirectory() as folder, MilvusProcess(Path(folder) / "m.db") as process:
        index = MilvusIndex(process.uri)
        with mock.patch(f"{MILVUS_INDEX}.index_for", return_value=CHOICES[name]):
            yield index, psutil.Process(process.pid)
        await index.close()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def timed(
    index: VectorIndex, queries: Float32, limit: int, text: str = "", topic: str = ""
) -> tuple[Float32, list[list[str]]]:
    """Milliseconds of every query, and what it found."""
    where = IndexFilter(ITEM_INDEX, (AnyOf("topics", (topic,)),)) if topic else None
    spent, found = [], []
    for query in queries:
        started = time.perf_counter()
        hits = await index.search(
            "bench", IndexQuery(query[None], text), limit, where=where, timeout_s=SEARCH_TIMEOUT_S
        )
        spent.append((time.perf_counter() - started) * 1_000)
        found.append(hits.ids)
    return np.array(spent, np.float32), found


async def measure(
    name: str, rows: IndexRows, queries: Float32, truths: tuple[list[set[str]], list[set[str]]]
) -> list[Row]:
    """Builds one index and asks it everything, once for each way of looking."""
    memory_before = psutil.Process().memory_info().rss
    async with opened(name) as (index, process):
        started = time.perf_counter()
        await index.create("bench", ITEM_INDEX, rows.vectors.shape[1], expected_rows=len(rows))
        for start in range(0, len(rows), WRITTEN_AT_ONCE):
            await index.upsert("bench", rows[start : start + WRITTEN_AT_ONCE])
        await timed(index, queries[:3], 10)  # the first search after a write finishes the build
        build_s = time.perf_counter() - started
        own = process.pid == psutil.Process().pid
        measured = []
        for probe in PROBES.get(name, [{}]):
            looked = (
                mock.patch(f"{MILVUS_INDEX}.search_parameters", return_value=probe)
                if probe
                else nullcontext()
            )
            with looked:
                hundred, found = await timed(index, queries, NEIGHBOURS)
                client_s, server_s = time.process_time(), _cpu_s(process)
                many, _ = await timed(index, queries, 500)
                client_s, server_s = time.process_time() - client_s, _cpu_s(process) - server_s
                filtered, within = await timed(index, queries, 500, topic=f"t{TOPIC}")
                hybrid, _ = await timed(index, queries[:20], 500, text="w17 w230 w4")
            measured.append(
                Row(
                    " ".join([name, *(f"{key} {value}" for key, value in probe.items())]),
                    len(rows),
                    build_s,
                    recall(truths[0], found),
                    *(float(v) for v in np.percentile(hundred, [50, 99])),
                    *(float(v) for v in np.percentile(many, [50, 99])),
                    float(np.median(filtered)),
                    recall(truths[1], within),
                    float(np.median(hybrid)),
                    client_s * 1_000 / len(queries),
                    0.0 if own else server_s * 1_000 / len(queries),
                    (process.memory_info().rss - (memory_before if own else 0)) / 1e6,
                )
            )
    return measured


def recall(truth: list[set[str]], found: list[list[str]]) -> float:
    """Mean share of the true nearest that were found."""
    return float(np.mean([len(t & set(f)) / len(t) for t, f in zip(truth, found, strict=True)]))


def nearest(vectors: Float32, queries: Float32, ids: list[str]) -> list[set[str]]:
    """The ids of every query's true nearest."""
    wanted = min(NEIGHBOURS, len(ids))
    best = np.argpartition(-(queries @ vectors.T), wanted - 1, axis=1)[:, :wanted]
    return [{ids[row] for row in rows} for rows in best.tolist()]


def show(rows: list[Row], refused: dict[str, str], console: Console) -> None:
    """The table, and what the embedded Milvus does not offer."""
    table = Table(title="vector search, milliseconds unless said")
    for heading in (
        *("rows", "index", "build s", "recall@100", "top 100 p50", "p99", "top 500 p50", "p99"),
        *(
            "500 of 1 topic in 50",
            "its recall",
            "500 + words",
            "CPU client",
            "CPU Milvus",
            "memory MB",
        ),
    ):
        table.add_column(heading, justify="left" if heading == "index" else "right")
    for row in rows:
        table.add_row(
            f"{row.rows:,}",
            row.index,
            f"{row.build_s:.1f}",
            f"{row.recall_at_100:.4f}",
            *(f"{v:.1f}" for v in (row.p50_ms_top_100, row.p99_ms_top_100)),
            *(f"{v:.1f}" for v in (row.p50_ms_top_500, row.p99_ms_top_500)),
            f"{row.p50_ms_filtered_500:.1f}",
            f"{row.filtered_recall_at_100:.4f}",
            *(f"{v:.1f}" for v in (row.p50_ms_hybrid_500, row.client_cpu_ms, row.server_cpu_ms)),
            f"{row.memory_mb:.0f}",
        )
    console.print(table)
    for name, reason in refused.items():
        console.print(f"{name}: {reason}")


async def offered(names: list[str], dim: int) -> dict[str, str]:
    """Why the embedded Milvus refuses kinds of index, by their names; it offers the others."""
    refused = {}
    for name in names:
        async with opened(name) as (index, _):
            try:
                await index.create("bench", ITEM_INDEX, dim)
            except Exception as error:  # noqa: BLE001 # whatever it is, it is shown
                refused[name] = str(error.__cause__ or error)[:160]
    return refused


async def run(arguments: argparse.Namespace, console: Console) -> None:
    """Measures everything that was asked for."""
    refused = await offered([n for n in arguments.indexes if n != EXACT], arguments.dim)
    names = [name for name in arguments.indexes if name not in refused]
    measured = []
    for size in arguments.sizes:
        drawn = clustered(
            size + arguments.queries, arguments.dim, arguments.clusters, arguments.spread, 1
        )
        vectors, queries = drawn[: -arguments.queries], drawn[-arguments.queries :]
        rows = catalogue(vectors)
        truths = (
            nearest(vectors, queries, list(rows.ids)),
            nearest(vectors[TOPIC::TOPICS], queries, list(rows.ids[TOPIC::TOPICS])),
        )
        for name in names:
            with console.status(f"{name}, {size:,} rows"):
                measured += await measure(name, rows, queries, truths)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in measured], "refused": refused}))
    else:
        show(measured, refused, console)


def main() -> None:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument(
        "--indexes", nargs="+", default=[*CHOICES, EXACT], choices=[*CHOICES, EXACT]
    )
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    asyncio.run(run(parser.parse_args(), Console(width=160)))


if __name__ == "__main__":
    main()
