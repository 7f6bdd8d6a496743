"""``recmesh index``: items' vectors and words into Milvus, then live at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from recmesh.cli.written_data import current_dataset, opened_database
from recmesh.deployments.mesh_record import running_mesh
from recmesh.models.nlp.training import item_texts
from recmesh.storage.appended_vectors import AppendedVectors, Float32
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.catalog_log import CatalogLog
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import (
    ArtifactError,
    DataError,
    NotFoundError,
    RecMeshError,
    UnavailableError,
)
from recmesh.storage.home import Home
from recmesh.storage.index_rows import IndexRows, item_rows
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.storage.vector_index import (
    EmbeddingVersion,
    VectorIndex,
    live_embedding_version,
    publish_embedding_version,
)
from recmesh.storage.vector_schema import ITEM_INDEX

BATCH = 500


def collection_name(embedding_version: str, dataset_version: str, artifact_version: str) -> str:
    """Name of the collection that holds these vectors; only letters, digits and ``_``."""
    made_of = f"{dataset_version} {artifact_version} {ITEM_INDEX.fingerprint}"
    content = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    return re.sub(r"\W", "_", f"items_{embedding_version}_{content}")


def indexed_items(
    artifact: Artifact, dataset: Dataset, appended: Mapping[str, Float32]
) -> IndexRows:
    """Rows of the collection, in the data set's order.

    ``appended`` are vectors made after training, of items that came or changed since.

    Raises:
        DataError: the data set has items that the artifact has no vector of.
    """
    try:
        vectors = artifact.tensors["item_vectors"].astype(np.float32)
        rows = {item_id: row for row, item_id in enumerate(artifact.strings["item_ids"])}
    except KeyError as error:
        raise ArtifactError(f"artifact nlp@{artifact.version} lacks {error}") from error
    item_ids: list[str] = dataset.items["item_id"].to_pylist()
    missing = sum(item_id not in rows and item_id not in appended for item_id in item_ids)
    if missing:
        raise DataError(
            f"{missing} of {len(item_ids)} items have no vector in nlp@{artifact.version}; "
            "run: recmesh train nlp"
        )
    known = [vectors[rows[i]] if i not in appended else appended[i] for i in item_ids]
    return item_rows(
        dataset.items,
        dataset.campaigns,
        np.stack(known) if known else vectors[:0],
        item_texts(dataset),
        str(artifact.card.parameters["embedding_version"]),
    )


async def fill(
    index: VectorIndex, record: EmbeddingVersion, rows: IndexRows, progress: Progress
) -> None:
    """Makes and fills the record's collection, and checks that it is complete.

    Raises:
        InvalidRequestError: a row breaks the index's schema.
        UnavailableError: the index holds another number of rows than were written.
    """
    task = progress.add_task("items indexed", total=len(rows))
    await index.create(record.collection, ITEM_INDEX, record.dim, expected_rows=len(rows))
    for start in range(0, len(rows), BATCH):
        await index.upsert(record.collection, rows[start : start + BATCH])
        progress.update(task, completed=min(start + BATCH, len(rows)))
    count = await index.count(record.collection)
    if count != record.count:
        raise UnavailableError(f"{record.collection} holds {count} of {record.count} items")


async def _current(
    index: VectorIndex, home: Home, record: EmbeddingVersion, dataset: Dataset
) -> bool:
    """Whether the record's collection is live, and complete as far as its writer has come."""
    try:
        live = live_embedding_version(home.vectors)
        if (live.version, live.collection) != (record.version, record.collection):
            return False
        count = await index.count(live.collection)
        followed = await asyncio.to_thread(_position, home, live)
        return followed < dataset.catalog_seq or count == record.count
    except (NotFoundError, DataError):
        return False


def _position(home: Home, live: EmbeddingVersion) -> int:
    """The last write to the catalog that the collection holds."""
    database = opened_database(home)
    if database is None:
        return live.catalog_seq
    try:
        position = CatalogLog(database).index_position(live.collection)
    finally:
        database.close()
    return live.catalog_seq if position is None else position


async def _index(
    home: Home,
    uri: str,
    record: EmbeddingVersion,
    rows: IndexRows,
    dataset: Dataset,
    quiet: bool,
) -> bool:
    index = MilvusIndex(uri)
    try:
        if await _current(index, home, record, dataset):
            return False
        with Progress(console=Console(stderr=True), disable=quiet) as progress:
            await fill(index, record, rows, progress)
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
        dataset = current_dataset(home)
        store = ArtifactStore(home.artifacts)
        artifact = store.load("nlp")
        version = str(artifact.card.parameters["embedding_version"])
        appended = AppendedVectors(store.appended("nlp"), version).news()
        rows = indexed_items(artifact, dataset, appended)
        record = EmbeddingVersion(
            version=version,
            collection=collection_name(version, dataset.ingested_version, artifact.version),
            dim=int(artifact.tensors["item_vectors"].shape[1]),
            count=len(rows),
            catalog_seq=dataset.catalog_seq,
        )
        running = running_mesh(home)
        # The mesh's own Milvus has the file; another could not open it.
        uri = uri or (running.index_uri if running else "")
        embedded = nullcontext() if uri else MilvusProcess(home.vectors / "milvus.db")
        with embedded as process:
            address = process.uri if process else uri
            changed = asyncio.run(_index(home, address, record, rows, dataset, as_json))
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
