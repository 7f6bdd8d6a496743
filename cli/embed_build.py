"""``recmesh embed build``: a new embedding version beside the one that serves."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.progress import Progress

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.index_server import index_server
from recmesh.cli.item_vectors import item_vectors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.train import Job, train_one
from recmesh.cli.written_data import current_dataset, index_position, mesh_config
from recmesh.deployments.encoder_pool import encoder_pool
from recmesh.deployments.mesh_record import running_mesh
from recmesh.models.nlp.encoder import Encoder, resolved
from recmesh.models.nlp.query_log import asked
from recmesh.models.nlp.training import item_texts, texts_to_embed
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import ConfigurationError, NotFoundError, UnavailableError
from recmesh.storage.home import Home
from recmesh.storage.index_rows import IndexRows, item_rows
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.vector_index import VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX

BATCH = 500


def collection_name(embedding_version: str, dataset_version: str, artifact_version: str) -> str:
    """Name of the collection that holds these vectors; only letters, digits and ``_``."""
    made_of = f"{dataset_version} {artifact_version} {ITEM_INDEX.fingerprint}"
    content = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    return re.sub(r"\W", "_", f"items_{embedding_version}_{content}")


@contextmanager
def only_build(home: Home) -> Iterator[None]:
    """Holds the home folder's lock: one process builds or drops at a time.

    Raises:
        ConfigurationError: another process does.
    """
    home.vectors.mkdir(parents=True, exist_ok=True)
    with (home.vectors / "build.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"another process builds or drops embedding versions in {home.vectors}; "
                "wait for it or stop it: it goes on where it was"
            ) from error
        yield


async def fill(
    index: VectorIndex,
    record: EmbeddingVersion,
    rows: IndexRows,
    *,
    keep: bool,
    unchanged: bool,
    progress: Progress,
) -> None:
    """Makes the record's collection hold exactly these rows.

    Args:
        index: that holds it.
        record: says which collection.
        rows: what it is to hold.
        keep: fill the collection that is there, if any, instead of an empty one.
        unchanged: rows that are there are those of an earlier run on the same data, so what has
            the same content hash needs no writing.
        progress: told how far it is.

    Raises:
        InvalidRequestError: a row breaks the index's schema.
        UnavailableError: the index holds another number of rows than were written.
    """
    task = progress.add_task("items indexed", total=len(rows))
    held: dict[str, str] = {}
    try:
        if not keep:
            raise NotFoundError("is not to be kept")
        held = await index.content_hashes(record.collection)
    except NotFoundError:
        await index.create(record.collection, ITEM_INDEX, record.dim, expected_rows=len(rows))
    gone = held.keys() - set(rows.ids)
    if gone:
        await index.delete(record.collection, sorted(gone))
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        hashes = list(batch.columns["content_hash"])
        written = unchanged and [held.get(id_) for id_ in batch.ids] == hashes
        if not written:
            await index.upsert(record.collection, batch)
        progress.update(task, completed=start + len(batch))
    count = await index.count(record.collection)
    if count != len(rows):
        raise UnavailableError(f"{record.collection} holds {count} of {len(rows)} items")


async def _complete(
    index: VectorIndex, home: Home, known: EmbeddingVersion, dataset: Dataset
) -> bool:
    """Whether a collection holds the catalog, as far as whoever follows it has come."""
    try:
        count = await index.count(known.collection)
    except NotFoundError:
        return False
    if count == len(dataset.items):
        return True
    followed = running_mesh(home) is not None or known.state is not State.BUILT
    return followed and index_position(home, known) < dataset.catalog_seq


async def _index(
    index: VectorIndex,
    home: Home,
    wanted: EmbeddingVersion,
    rows: IndexRows,
    dataset: Dataset,
    progress: Progress,
) -> tuple[EmbeddingVersion, bool]:
    registry = EmbeddingRegistry(home.vectors)
    known = next((r for r in registry.records() if r.collection == wanted.collection), None)
    served = wanted.collection in {record.collection for record in registry.served()}
    previous = registry.previous()
    stands = known is not None and (
        known.state in (State.BUILT, State.VERIFIED, State.LIVE)
        or (previous is not None and previous.collection == known.collection)
    )
    if known is not None and stands and await _complete(index, home, known, dataset):
        return known, False
    resumed = (
        known is not None
        and known.state is State.BUILDING
        and known.catalog_seq == wanted.catalog_seq
    )
    record = replace(wanted, times=known.times if known else {})
    if not served:
        record = registry.save(record, State.BUILDING)
    await fill(index, record, rows, keep=served or resumed, unchanged=resumed, progress=progress)
    if known is not None and known.state is State.LIVE:
        return known, True  # made whole again; it never left
    return registry.save(record, State.BUILT), True


def build(
    home: Home, dataset: Dataset, artifact: Artifact, uri: str, progress: Progress
) -> tuple[EmbeddingVersion, bool]:
    """Indexes the items' vectors for a version of the language model.

    Goes on where an earlier run was stopped, on the same data; what serves, serves on.

    Returns:
        The record, and whether anything was to be done.

    Raises:
        DataError: the data set has items that the artifact has no vector of.
        UnavailableError: the index does not answer.
    """
    parameters = artifact.card.parameters
    version = str(parameters["embedding_version"])
    vectors = item_vectors(ArtifactStore(home.artifacts), artifact, dataset)
    rows = item_rows(
        dataset.items, dataset.campaigns, vectors, item_texts(dataset), version, asked(artifact)
    )
    record = EmbeddingVersion(
        version=version,
        collection=collection_name(version, dataset.ingested_version, artifact.version),
        dim=int(artifact.tensors["item_vectors"].shape[1]),
        count=len(rows),
        catalog_seq=dataset.catalog_seq,
        encoder=str(parameters["encoder"]),
        encoder_version=str(parameters.get("encoder_version", version)),
        artifact=artifact.version,
        dataset_version=artifact.card.dataset_version,
    )

    async def run(address: str) -> tuple[EmbeddingVersion, bool]:
        index = MilvusIndex(address)
        try:
            return await _index(index, home, record, rows, dataset, progress)
        finally:
            await index.close()

    with index_server(home, uri) as address:
        return asyncio.run(run(address))


def _trained(
    home: Home, dataset: Dataset, dim: int, encoder: str, validate: bool, progress: Progress
) -> Artifact:
    """The language model for an encoder and its first dimensions, trained if it is not yet."""
    store = ArtifactStore(home.artifacts)
    choice = resolved(encoder)
    made_by = Encoder.choose(choice).version
    for record in EmbeddingRegistry(home.vectors).records():
        all_of_it = record.version == record.encoder_version
        if (
            (record.encoder, record.encoder_version) == (choice, made_by)
            and (record.dim == dim or (all_of_it and not dim))
            and record.dataset_version == dataset.version
            and record.artifact in store.versions("nlp")
        ):
            return store.load("nlp", record.artifact)
    task = progress.add_task("nlp", total=None)
    published = train_one(
        Job("nlp", validate=validate, live=False, parameters={"encoder": choice, "dim": dim}),
        home,
        dataset,
        lambda done, total, what: progress.update(
            task, completed=done, total=total, description=what
        ),
    )
    progress.remove_task(task)
    if published.warning:
        progress.console.print(f"[yellow]{published.warning}[/yellow]")
    return store.load("nlp", published.version)


def embed_on_ray(home: Home, dataset: Dataset, encoder: str, workers: int, bars: Progress) -> None:
    """Embeds what no training has embedded yet, on several Ray workers.

    Raises:
        ConfigurationError: a node has other weights, or no room for the workers.
        UnavailableError: the cluster does not answer, or its workers die again and again.
    """
    choice = resolved(encoder)
    task = bars.add_task(f"embedding, {workers} workers", total=None)
    running = running_mesh(home)
    address = running.ray_address if running else mesh_config(home).ray.address
    with encoder_pool(home, address, choice, workers) as embed_parts:
        encode_cached(
            Encoder.choose(choice),
            texts_to_embed(dataset).all,
            home.text_vectors,
            lambda done, total, what: bars.update(
                task, completed=done, total=total, description=f"{what}, {workers} workers"
            ),
            embed_parts,
        )
    bars.remove_task(task)


def build_command(
    dim: Annotated[
        int, typer.Option(min=0, help="The encoder's first dimensions only. 0: all of them.")
    ] = 0,
    encoder: Annotated[
        str, typer.Option(help="Name or folder. Default: $RECMESH_ENCODER, or the packaged one.")
    ] = "",
    validate: Annotated[
        bool, typer.Option(help="Measure and calibrate on the last events first.")
    ] = True,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Ray workers that embed, a CPU each. 1: this process, all CPUs."),
    ] = 1,
    uri: Annotated[
        str, typer.Option(help="A Milvus server. Default: the running mesh's, or the embedded.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Builds an embedding version beside the one that serves.

    Trains the language model for it, embeds what was not embedded yet, and fills a collection
    of its own. Stopped or killed, the same command goes on where it was. Nothing that serves
    changes until: recmesh embed switch

    --workers spreads the embedding over the running mesh's Ray cluster, the configured one, or
    one that is started for it.

    Examples:

        recmesh embed build

        recmesh embed build --dim 64

        recmesh embed build --encoder ./encoders/cardiology --json

        recmesh embed build --workers 16
    """
    home = Home.from_environment()
    with clear_errors("recmesh embed build"), only_build(home), progress_bars(as_json) as progress:
        dataset = current_dataset(home)
        if workers > 1:
            embed_on_ray(home, dataset, encoder, workers, progress)
        artifact = _trained(home, dataset, dim, encoder, validate, progress)
        record, changed = build(home, dataset, artifact, uri, progress)
    if as_json:
        typer.echo(json.dumps(asdict(record) | {"changed": changed}))
    else:
        done = "built" if changed else "was built already"
        typer.echo(f"{record.version} {done}: {record.count} items in {record.collection}")
        if record.state is State.BUILT:
            typer.echo(f"next: recmesh embed verify {record.version}")
