"""Writes to the catalog: how many a second are acknowledged, and how soon they show.

    python -m benchmarks.catalog_writes                       a catalogue of 100,000 items
    python -m benchmarks.catalog_writes --items 10000
    python -m benchmarks.catalog_writes --address 127.0.0.1:50051      a mesh that runs

Without an address, makes a catalogue and serves it with `recmesh serve` (one process, SQLite).
Callers upsert items as fast as they are acknowledged, then at a steady rate; meanwhile single
items are written and deleted and asked for until they show and are gone, and pages are asked
for one after another. Writes go to ids of its own, which it deletes at the end. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.storage.ingest import ingest
from recmesh.storage.interchange import ITEMS
from recmesh.storage.milvus_process import free_port
from recmesh.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    common_pb2,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

CALLERS = 4
BATCH = 100
WRITTEN = 20_000
"""Distinct items that are written over and over."""
STEADY_ITEMS_PER_S = 1000
GIVE_UP_S = 60.0


def make_home(home: Path, items: int) -> None:
    """A catalogue of ``items`` rows and ten events a user of a few users."""
    drawn = np.random.default_rng(0)
    first = datetime(2025, 1, 1, tzinfo=UTC)
    words = [f"word{n}" for n in range(2000)]
    columns: dict[str, Any] = {
        "item_id": [f"i{n}" for n in range(items)],
        "content_type": ["article"] * items,
        "title": [" ".join(words[w] for w in row) for row in drawn.integers(0, 2000, (items, 8))],
        "topics": [[f"topic-{t}"] for t in drawn.integers(0, 200, items)],
        "countries": [["DE", "FR"]] * items,
        "published_at": [first + timedelta(minutes=n) for n in range(items)],
    }
    source = home / "source"
    source.mkdir(parents=True)
    table = {
        f.name: pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(items, f.type)
        for f in ITEMS.columns
    }
    pq.write_table(pa.table(table, schema=ITEMS.columns), source / "items.parquet")
    clicks = [
        {
            "event_id": f"e{n}",
            "user_id": f"u{n % 1000}",
            "item_id": f"i{item}",
            "event_type": "click",
            "time": (first + timedelta(minutes=n)).isoformat(),
        }
        for n, item in enumerate(drawn.integers(0, items, 10_000).tolist())
    ]
    (source / "events.jsonl").write_text("\n".join(map(json.dumps, clicks)))
    ingest(source, home / "dataset")


def item(number: int, round_: int) -> catalog_pb2.Item:
    """The same text in every round: only what is said about the item changes."""
    made = catalog_pb2.Item(
        item_id=f"bench-{number}",
        content_type="article",
        title=f"Benchmark item {number}",
        topics=[f"topic-{(number + round_) % 200}"],
        countries=["DE", "FR"],
    )
    made.published_at.seconds = 1_760_000_000 + round_
    return made


class Mesh:
    """What callers may call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.recommendations = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        self.round = 0
        self.next = 0

    def batch(self) -> catalog_pb2.UpsertItemsRequest:
        """The next items in turn, with other metadata than the last time."""
        numbers = [(self.next + n) % WRITTEN for n in range(BATCH)]
        self.next = (self.next + BATCH) % WRITTEN
        self.round += 1
        return catalog_pb2.UpsertItemsRequest(items=[item(n, self.round) for n in numbers])

    async def ranked(self, item_id: str) -> bool:
        """Whether the orchestrator would rank the item."""
        page = await self.recommendations.Recommend(
            recommendation_pb2.RecommendRequest(
                surface="feed", user_id="u1", candidate_item_ids=[item_id]
            ),
            timeout=10,
        )
        return len(page.recommendations) == 1

    async def searched(self, item_id: str, query: str) -> bool:
        """Whether the vector index finds the item."""
        page = await self.recommendations.Recommend(
            recommendation_pb2.RecommendRequest(surface="search", user_id="u1", query=query),
            timeout=10,
        )
        return item_id in [shown.item_id for shown in page.recommendations]

    async def can_search(self) -> bool:
        """Whether a vector index serves."""
        page = await self.recommendations.Recommend(
            recommendation_pb2.RecommendRequest(surface="search", user_id="u1", query="x"),
            timeout=10,
        )
        (state,) = [s.state for s in page.sources if s.name == "vector-index"]
        return state == common_pb2.SOURCE_STATE_OK


async def write_for(mesh: Mesh, seconds: float, items_per_s: float | None) -> float:
    """Writes from several callers; returns acknowledged items a second."""
    started = time.monotonic()
    acknowledged = sent = 0

    async def caller() -> None:
        nonlocal acknowledged, sent
        while time.monotonic() < started + seconds:
            if items_per_s is not None:
                due = started + sent / items_per_s
                sent += BATCH
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await mesh.catalog.UpsertItems(mesh.batch(), timeout=30)
            acknowledged += BATCH

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return acknowledged / (time.monotonic() - started)


async def until(holds: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until it holds; infinite after a minute."""
    started = time.monotonic()
    while not await holds():
        if time.monotonic() > started + GIVE_UP_S:
            return float("inf")
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def freshness(mesh: Mesh, search: bool, seconds: float) -> dict[str, list[float]]:
    """Seconds from acknowledgements until items show and until they are gone."""
    found: dict[str, list[float]] = {"shown_s": [], "gone_s": []}
    if search:
        found |= {"found_by_search_s": [], "not_found_by_search_s": []}
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        item_id, title = f"bench-fresh-{number}", f"Unheard of subject {time.time_ns()}"
        made = catalog_pb2.Item(item_id=item_id, content_type="article", title=title)
        await mesh.catalog.UpsertItems(catalog_pb2.UpsertItemsRequest(items=[made]))
        if search:
            shown, searched = await asyncio.gather(
                until(lambda i=item_id: mesh.ranked(i)),
                until(lambda i=item_id, t=title: mesh.searched(i, t)),
            )
            found["found_by_search_s"].append(searched)
        else:
            shown = await until(lambda i=item_id: mesh.ranked(i))
        found["shown_s"].append(shown)
        await mesh.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=[item_id]))

        async def gone(i: str = item_id) -> bool:
            return not await mesh.ranked(i)

        async def not_found(i: str = item_id, t: str = title) -> bool:
            return not await mesh.searched(i, t)

        found["gone_s"].append(await until(gone))
        if search:
            found["not_found_by_search_s"].append(await until(not_found))
    return found


async def pages(mesh: Mesh, seconds: float) -> list[float]:
    """Milliseconds of one page after another."""
    took = []
    end = time.monotonic() + seconds
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id="u1")
    while time.monotonic() < end:
        started = time.monotonic()
        await mesh.recommendations.Recommend(request, timeout=10)
        took.append(1e3 * (time.monotonic() - started))
    return took


def spread(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[int(0.99 * (len(ordered) - 1))], 3),
        "max": round(ordered[-1], 3),
    }


async def measure(address: str, seconds: float) -> dict[str, Any]:
    """Everything, on a mesh that serves there; steady writes for ``seconds``."""
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        mesh = Mesh(channel)
        search = await mesh.can_search()
        quiet = await pages(mesh, seconds / 4)
        idle = await freshness(mesh, search, seconds / 2)
        burst = await write_for(mesh, seconds / 2, None)
        steady, busy, took = await asyncio.gather(
            write_for(mesh, seconds, STEADY_ITEMS_PER_S),
            freshness(mesh, search, seconds),
            pages(mesh, seconds),
        )
        for start in range(0, WRITTEN, 1000):
            ids = [f"bench-{n}" for n in range(start, start + 1000)]
            await mesh.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=ids))
    return {
        "acknowledged_items_per_s": round(burst),
        "steady_items_per_s": round(steady),
        "without_other_writes": {name: spread(values) for name, values in idle.items()},
        "with_steady_writes": {name: spread(values) for name, values in busy.items()},
        "page_ms_without_writes": spread(quiet),
        "page_ms_with_steady_writes": spread(took),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--address", default="")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steady writes")
    chosen = parser.parse_args()
    if chosen.address:
        print(json.dumps(asyncio.run(measure(chosen.address, chosen.seconds)), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_home(Path(folder), chosen.items)
        address = f"127.0.0.1:{free_port()}"
        serving = subprocess.Popen(
            [sys.executable, "-m", "recmesh.cli.main", "serve", "--address", address],
            env=os.environ | {"RECMESH_HOME": folder},
            stdout=subprocess.DEVNULL,
        )
        try:
            outcome = {"items": chosen.items, **asyncio.run(measure(address, chosen.seconds))}
        finally:
            serving.terminate()
            serving.wait()
    print(json.dumps(outcome, indent=2))


if __name__ == "__main__":
    main()
