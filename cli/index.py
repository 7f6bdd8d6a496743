"""``recmesh index``: items' vectors and words into Milvus, then live at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from recmesh.deployments.mesh_record import running_mesh
from recmesh.models.nlp.training import item_texts
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import (
    ArtifactError,
    DataError,
    NotFoundError,
    RecMeshError,
    UnavailableError,
)
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.storage.vector_index import (
    EmbeddingVersion,
    IndexedItem,
    VectorIndex,
    live_embedding_version,
    publish_embedding_version,
)

BATCH = 500


def collection_name(embedding_version: str, dataset_version: str, artifact_version: str) -> str:
    """Name of the collection that holds these vectors; only letters, digits and ``_``."""
    content = hashlib.sha256(f"{dataset_version} {artifact_version}".encode()).hexdigest()[:12]
    return re.sub(r"\W", "_", f"items_{embedding_version}_{content}")


def indexed_items(artifact: Artifact, dataset: Dataset) -> list[IndexedItem]:
    """Rows of the collection, in the data set's order.

    Raises:
        DataError: the data set has items that the artifact has no vector of.
    """
    try:
        vectors = artifact.tensors["item_vectors"].astype(np.float32)
        rows = {item_id: row for row, item_id in enumerate(artifact.strings["item_ids"])}
    except KeyError as error:
        raise ArtifactError(f"artifact nlp@{artifact.version} lacks {error}") from error
    item_ids: list[str] = dataset.items["item_id"].to_pylist()
    missing = sum(item_id not in rows for item_id in item_ids)
    if missing:
        raise DataError(
            f"{missing} of {len(item_ids)} items have no vector in nlp@{artifact.version}; "
            "run: recmesh train nlp"
        )
    return [
        IndexedItem(item_id, vectors[rows[item_id]], text)
        for item_id, text in zip(item_ids, item_texts(dataset), strict=True)
    ]


async def fill(
    index: VectorIndex, record: EmbeddingVersion, items: Sequence[IndexedItem], progress: Progress
) -> None:
    """Makes and fills the record's collection, and checks that it is complete.

    Raises:
        UnavailableError: the index holds another number of rows than were written.
    """
    task = progress.add_task("items indexed", total=len(items))
    await index.create(record.collection, record.dim)
    for start in range(0, len(items), BATCH):
        await index.upsert(record.collection, items[start : start + BATCH])
        progress.update(task, completed=min(start + BATCH, len(items)))
    count = await index.count(record.collection)
    if count != record.count:
        raise UnavailableError(f"{record.collection} holds {count} of {record.count} items")


async def _current(index: VectorIndex, home: Home, record: EmbeddingVersion) -> bool:
    """Whether the record is live and its collection complete."""
    try:
        live = live_embedding_version(home.vectors)
        return live == record and await index.count(record.collection) == record.count
    except (NotFoundError, DataError):
        return False


async def _index(
    home: Home, uri: str, record: EmbeddingVersion, items: Sequence[IndexedItem], quiet: bool
) -> bool:
    index = MilvusIndex(uri)
    try:
        if await _current(index, home, record):
            return False
        with Progress(console=Console(stderr=True), disable=quiet) as progress:
            await fill(index, record, items, progress)
        publish_embedding_version(home.vectors, record)
        return True
    finally:
        await index.close()


def index_command(
    uri: Annotated[
        str, typer.Option(help="A Milvus server. Default: the running mesh's, or the embedded.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Indexes the items' vectors and makes them live.

    The live collection serves on until the new one is complete. Running it again without
    new data or a new model does nothing. A mesh that runs searches it after: recmesh up

    Examples:
        recmesh index
        recmesh index --uri http://milvus:19530
    """
    home = Home.from_environment()
    try:
        dataset = Dataset.open(home.dataset)
        artifact = ArtifactStore(home.artifacts).load("nlp")
        items = indexed_items(artifact, dataset)
        version = str(artifact.card.parameters["embedding_version"])
        record = EmbeddingVersion(
            version=version,
            collection=collection_name(version, dataset.version, artifact.version),
            dim=int(artifact.tensors["item_vectors"].shape[1]),
            count=len(items),
        )
        running = running_mesh(home)
        # The mesh's own Milvus has the file; another could not open it.
        uri = uri or (running.index_uri if running else "")
        embedded = nullcontext() if uri else MilvusProcess(home.vectors / "milvus.db")
        with embedded as process:
            address = process.uri if process else uri
            changed = asyncio.run(_index(home, address, record, items, as_json))
    except RecMeshError as error:
        typer.echo(f"recmesh index: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        result = {"collection": record.collection, "count": record.count, "changed": changed}
        typer.echo(json.dumps({"embedding_version": version, **result}))
    else:
        done = "indexed" if changed else "already indexed"
        typer.echo(f"{record.count} items {done} in {record.collection}")
        if running and changed:
            restart = "recmesh up" if running.index_uri else "recmesh down && recmesh up"
            typer.echo(f"the running mesh searches it after: {restart}")
