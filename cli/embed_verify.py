"""``recmesh embed verify``: whether an embedding version may go live."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, replace
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.index_server import index_server
from recmesh.cli.item_vectors import item_vectors
from recmesh.cli.written_data import current_dataset, index_position
from recmesh.deployments.mesh_record import running_mesh
from recmesh.models.registry import loader
from recmesh.offline.index_recall import recall, sample
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import ConfigurationError, DataError
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex

LEAST_RECALL = 0.99
CATCH_UP_S = 60.0
POLL_S = 0.5


async def _current(index: MilvusIndex, home: Home, record: EmbeddingVersion) -> Dataset:
    """The data set that the collection holds, once it holds all of it.

    Raises:
        ConfigurationError: it does not, and nobody brings it up to date in time.
    """
    end_s = time.monotonic() + (CATCH_UP_S if running_mesh(home) else 0.0)
    while True:
        dataset = current_dataset(home)
        count, position = await index.count(record.collection), index_position(home, record)
        if count == len(dataset.items) and position >= dataset.catalog_seq:
            return dataset
        if time.monotonic() > end_s:
            raise ConfigurationError(
                f"{record.collection} holds {count} items up to write {position}, the catalog "
                f"{len(dataset.items)} up to write {dataset.catalog_seq}; a running mesh brings it "
                "up to date, or run: recmesh embed build"
            )
        await asyncio.sleep(POLL_S)


async def _measured(address: str, home: Home, record: EmbeddingVersion) -> dict[str, float]:
    """Counts, and recall@100 of each kind of query."""
    index = MilvusIndex(address)
    try:
        dataset = await _current(index, home, record)
        store = ArtifactStore(home.artifacts)
        artifact = store.load("nlp", record.artifact)
        vectors = item_vectors(store, artifact, dataset)
        ids: list[str] = dataset.items["item_id"].to_pylist()
        if not ids:
            raise DataError("there are no items to verify with; run: recmesh ingest")
        measured: dict[str, float] = {"items": len(ids)}
        drawn = sample(loader("nlp")(artifact), dataset, vectors)
        for kind, queries in drawn.vectors.items():
            measured[f"asked_{kind}"] = len(queries)
            found = await recall(index, record.collection, ids, vectors, queries)
            measured[f"recall_at_100_{kind}"] = round(found, 4)
        return measured
    finally:
        await index.close()


def verify(home: Home, record: EmbeddingVersion, uri: str = "") -> EmbeddingVersion:
    """Checks counts and recall, and writes down what was found.

    Returns:
        The record; one that was built is verified.

    Raises:
        ConfigurationError: it is not built, or lacks items.
        DataError: it finds too little of what exact search finds.
    """
    registry = EmbeddingRegistry(home.vectors)
    if record.state is State.BUILDING:
        raise ConfigurationError(f"{record.version} is not built yet; run: recmesh embed build")
    with index_server(home, uri) as address:
        metrics = asyncio.run(_measured(address, home, record))
    low = {k: v for k, v in metrics.items() if k.startswith("recall") and v < LEAST_RECALL}
    if low:
        found = ", ".join(f"{kind} {value:.4f}" for kind, value in low.items())
        raise DataError(
            f"{record.version} finds too little: {found}, at least {LEAST_RECALL}; it stays "
            f"{record.state}"
        )
    state = State.VERIFIED if record.state is State.BUILT else record.state
    return registry.save(replace(record, metrics=metrics), state)


def verify_command(
    version: Annotated[str, typer.Argument(help="Embedding version, or its collection.")],
    uri: Annotated[
        str, typer.Option(help="A Milvus server. Default: the running mesh's, or the embedded.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Checks an embedding version: only what is verified may go live.

    It must hold every item of the catalog, and of the 100 nearest that exact search finds, for
    stored vectors, users and queries that were asked, 99% or more. Exits with 1 when not.

    Examples:

        recmesh embed verify all-MiniLM-L6-v2-int8-8199be6f-d64

        recmesh embed verify all-MiniLM-L6-v2-int8-8199be6f-d64 --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh embed verify"):
        record = verify(home, EmbeddingRegistry(home.vectors).get(version), uri)
    if as_json:
        typer.echo(json.dumps(asdict(record)))
        return
    typer.echo(f"{record.version} is {record.state}: {int(record.metrics['items'])} items")
    for kind, value in record.metrics.items():
        if kind.startswith("recall"):
            asked = int(record.metrics[f"asked_{kind.rpartition('_')[2]}"])
            typer.echo(f"  {kind} {value:.4f} of {asked} asked")
    if record.state is State.VERIFIED:
        typer.echo(f"next: recmesh embed switch {record.version}")
