"""``recmesh embed switch`` and ``rollback``: which embedding version serves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.written_data import current_dataset, index_position
from recmesh.deployments.applications import states
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_record import MeshRecord, running_mesh
from recmesh.deployments.mesh_token import mesh_token
from recmesh.deployments.ray_cluster import join_cluster, leave_cluster
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import RecMeshError, UnavailableError
from recmesh.storage.home import Home

READY_S = 60.0
DESCRIBE_S = 2.0
POLL_S = 0.25


async def lacking(addresses: Sequence[str], embedding_version: str, token: str = "") -> list[str]:
    """Replicas that do not say that they speak a version, or say nothing.

    ``token`` of the mesh that all of them are in.
    """

    async def lacks(address: str) -> bool:
        client = GrpcModelClient(EMBEDDER, [address], token=token)
        try:
            said = await client.describe(timeout_s=DESCRIBE_S)
        except RecMeshError:
            return True
        finally:
            await client.close()
        return embedding_version not in (said.embedding_version, *said.embedding_versions)

    found = await asyncio.gather(*(lacks(address) for address in addresses))
    return [address for address, lacks_it in zip(addresses, found, strict=True) if lacks_it]


def _wait_until_spoken(home: Home, running: MeshRecord, version: str) -> None:
    """Returns once every replica of the language model speaks it."""
    table = MeshConfig.load(Path(running.config), home).models.get(EMBEDDER)
    fixed = list(table.addresses) if table else []
    join_cluster(home, running.ray_address)
    try:
        end_s = time.monotonic() + READY_S
        while True:
            announced = [r.address for s in states() if s.name == EMBEDDER for r in s.replicas]
            waiting = asyncio.run(lacking(announced, version, mesh_token(home)))
            waiting += asyncio.run(lacking(fixed, version))
            if not waiting:
                return
            if time.monotonic() > end_s:
                raise UnavailableError(
                    f"{len(waiting)} of {len(announced) + len(fixed)} replicas of {EMBEDDER} do "
                    f"not speak {version} after {READY_S:.0f} s; their logs say why"
                )
            time.sleep(POLL_S)
    finally:
        leave_cluster()


def _wait_until_current(home: Home, record: EmbeddingVersion) -> None:
    """Returns once the collection holds what has been written up to now."""
    head, end_s = current_dataset(home).catalog_seq, time.monotonic() + READY_S
    while (position := index_position(home, record)) < head:
        if time.monotonic() > end_s:
            raise UnavailableError(
                f"{record.collection} holds writes up to {position} of {head} after "
                f"{READY_S:.0f} s; the catalog's log says why it does not follow"
            )
        time.sleep(POLL_S)


def switch(home: Home, record: EmbeddingVersion) -> bool:
    """Makes a verified version live, once everybody in a running mesh can speak it.

    Returns:
        Whether another one was live.

    Raises:
        ConfigurationError: it is not verified.
        UnavailableError: a replica cannot speak it, or its collection lags, after a minute.
    """
    registry = EmbeddingRegistry(home.vectors)
    running = running_mesh(home)
    if running is not None and running.index_uri and record.state is State.VERIFIED:
        _wait_until_current(home, record)
        _wait_until_spoken(home, running, record.version)
    changed = registry.switch(record.collection)
    # What is deployed from now on starts with the artifact that speaks it.
    ArtifactStore(home.artifacts).make_live(EMBEDDER, record.artifact)
    return changed


def switch_command(
    version: Annotated[str, typer.Argument(help="Embedding version, or its collection.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Makes a verified embedding version live, without a request failing.

    Waits until every replica of the language model in a running mesh speaks it. Orchestrators
    take it over between two requests, within a second. The one before stays ready: recmesh
    embed rollback

    Examples:

        recmesh embed switch all-MiniLM-L6-v2-int8-8199be6f-d64
    """
    home = Home.from_environment()
    with clear_errors("recmesh embed switch"):
        record = EmbeddingRegistry(home.vectors).get(version)
        changed = switch(home, record)
    _say(home, changed, as_json)


def rollback(home: Home) -> EmbeddingVersion:
    """Makes the version before live again, and returns it.

    Raises:
        NotFoundError: there was none before.
    """
    record = EmbeddingRegistry(home.vectors).rollback()
    ArtifactStore(home.artifacts).go_back_to(EMBEDDER, record.artifact)
    return record


def rollback_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Makes the embedding version that was live before live again, at once.

    Every replica still speaks it and its collection followed the catalog. Done twice by
    mistake, the second time fails and changes nothing.

    Examples:

        recmesh embed rollback
    """
    home = Home.from_environment()
    with clear_errors("recmesh embed rollback"):
        rollback(home)
    _say(home, True, as_json)


def _say(home: Home, changed: bool, as_json: bool) -> None:
    record = EmbeddingRegistry(home.vectors).live()
    if as_json:
        typer.echo(json.dumps(asdict(record) | {"changed": changed}))
    else:
        typer.echo(f"{record.version} {'is live' if changed else 'was live already'}")
