"""A data set small enough to check by hand, and a model that is a plain function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.models.model import TrainOptions
from recmesh.models.registry import trainer
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home
from recmesh.storage.ingest import ingest
from recmesh.storage.interchange import TABLES
from recmesh.v1 import model_pb2

NOW_UNIX_S = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())
DAY_S = 86_400
BLANKS: dict[pa.DataType, Any] = {pa.string(): "", pa.list_(pa.string()): [], pa.bool_(): True}


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """A table of the interchange format with blanks filled in."""
    schema = TABLES[name].columns
    filled = [{f.name: BLANKS.get(f.type) for f in schema} | row for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


def write_table(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """Writes a table to ``NAME.parquet`` in the folder; returns the file."""
    file = folder / f"{name}.parquet"
    pq.write_table(table(name, rows), file)
    return file


def dataset(folder: Path, n_items: int = 40) -> Dataset:
    """``n_items`` items over 4 topics, 3 doctors; ``reader`` has read i0 and i1."""
    at = [datetime.fromtimestamp(NOW_UNIX_S - i * DAY_S, UTC) for i in range(max(n_items, 10))]
    items = [
        {
            "item_id": f"i{i}",
            "title": f"Title {i}",
            "content_type": "article" if i % 2 else "guideline",
            "topics": [f"t{i % 4}"],
            "countries": ["DE"] if i == 5 else [],
            "published_at": at[i],
            "expires_at": at[1] if i == 6 else None,
        }
        for i in range(n_items)
    ]
    users = [
        {"user_id": u, "country": "FR", "specialties": ["cardiology"]}
        for u in ("reader", "colleague", "stranger")
    ]
    events = [
        {
            "event_id": f"e{i}",
            "user_id": u,
            "item_id": item,
            "event_type": "click",
            "time": at[9 - i],
        }
        for i, (u, item) in enumerate(
            [("reader", "i0"), ("colleague", "i3"), ("reader", "i1"), ("stranger", "i3")]
        )
    ]
    edges = [{"source_user_id": "reader", "target_user_id": "colleague", "edge_type": "follow"}]
    files = {}
    for name, rows in {"items": items, "users": users, "events": events, "edges": edges}.items():
        if rows:
            files[name] = write_table(folder, name, rows)
    return Dataset(version="small", files=files)


def ingested_home(root: Path) -> Home:
    """A home folder as ``recmesh ingest`` leaves it, with :func:`dataset` inside."""
    home = Home(root)
    home.dataset.mkdir(parents=True)
    files = {name: file.name for name, file in dataset(home.dataset).files.items()}
    (home.dataset / "dataset.json").write_text(json.dumps({"version": "small", "files": files}))
    return home


def train(home: Home, name: str, seed: int = 1) -> str:
    """Trains a model and makes it live; returns the version."""
    trained = trainer(name)(Dataset.open(home.dataset), TrainOptions(seed=seed))
    return ArtifactStore(home.artifacts).publish(trained.card, trained.tensors, trained.strings)


def tastes_home(
    folder: Path, swap_tastes_from: datetime | None = None, until: datetime | None = None
) -> Path:
    """Even doctors read the a items, odd ones the b items, at an even pace.

    From ``swap_tastes_from`` on it is the other way round. Nothing is ingested that happens at
    ``until`` or later.
    """
    source, home = folder / "source", folder / "home"
    source.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"{taste}{n}" for taste in "ab" for n in range(10)]
    events = []
    for user in range(40):
        order = rng.permutation(10)
        start = int(rng.integers(0, 600_000))
        events += [
            {
                "event_id": f"{user}-{item}",
                "user_id": f"u{user:02}",
                "item_id": f"{'ab'[user % 2]}{item}",
                "event_type": "click",
                "time": datetime.fromtimestamp(NOW_UNIX_S + start + 40_000 * n, UTC),
            }
            for n, item in enumerate(order)
        ]
    for event in events:
        if swap_tastes_from is not None and event["time"] >= swap_tastes_from:
            event["item_id"] = event["item_id"].translate(str.maketrans("ab", "ba"))
    if until is not None:
        events = [event for event in events if event["time"] < until]
    ties = [
        {"source_user_id": f"u{u:02}", "target_user_id": f"u{u + 2:02}", "edge_type": "follow"}
        for u in range(38)
    ]
    write_table(source, "items", [{"item_id": i, "content_type": "c", "title": i} for i in names])
    write_table(source, "users", [{"user_id": f"u{u:02}"} for u in range(40)])
    write_table(source, "events", sorted(events, key=lambda event: event["time"]))
    write_table(source, "edges", ties)
    ingest(source, home / "dataset")
    return home


class FunctionModel:
    """A ModelClient whose opinion is a function of the item id; may be slow or broken."""

    def __init__(
        self,
        name: str,
        opinion: Callable[[str], float | None],
        n_items: int = 40,
        version: str = "1",
    ) -> None:
        self.name = name
        self.version = version
        self.opinion = opinion
        self.n_items = n_items
        self.delay_s = 0.0
        self.failure: RecMeshError | None = None
        self.scored: list[str] = []

    async def _work(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        await self._work()
        return model_pb2.DescribeResponse(
            name=self.name,
            version=self.version,
            capabilities=[model_pb2.CAPABILITY_RETRIEVE, model_pb2.CAPABILITY_SCORE],
        )

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        await self._work()
        liked = {f"i{i}": self.opinion(f"i{i}") for i in range(self.n_items)}
        best = sorted(
            ((s, i) for i, s in liked.items() if s is not None),
            key=lambda pair: (-pair[0], pair[1]),
        )[: request.limit]
        return model_pb2.RetrieveResponse(
            item_ids=[i for _, i in best], scores=[s for s, _ in best], version=self.version
        )

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        await self._work()
        self.scored.extend(request.item_ids)
        opinions = [self.opinion(i) for i in request.item_ids]
        return model_pb2.ScoreResponse(
            scores=[0.0 if s is None else s for s in opinions],
            missing=[i for i, s in enumerate(opinions) if s is None],
            version=self.version,
        )

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        await self._work()
        return model_pb2.EmbedResponse()

    async def close(self) -> None:
        pass
