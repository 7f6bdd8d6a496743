"""``recmesh embed gc``: drops embedding versions that nobody asks for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.embed_build import only_build
from recmesh.cli.index_server import index_server
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_record import running_mesh
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry, EmbeddingVersion, State
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex


def droppable(
    registry: EmbeddingRegistry,
    named: Sequence[str],
    experiments: Mapping[str, str] | None = None,
) -> list[EmbeddingVersion]:
    """Retired versions that have drained, builds that were left, and those named.

    Args:
        registry: of all versions.
        named: dropped besides.
        experiments: that search a version or collection, by it.

    Raises:
        NotFoundError: there is none of that name.
        ConfigurationError: a named one serves, a rollback leads to it, or an experiment searches
            it.
    """
    served = {record.collection for record in registry.served()}
    found = {r.collection: r for r in registry.records() if r.collection not in served}
    previous = registry.previous()
    for record in (registry.get(name) for name in named):
        for name in (record.version, record.collection):
            if experiments and name in experiments:
                raise ConfigurationError(
                    f"an arm of experiment {experiments[name]} searches {record.version}; run: "
                    f"recmesh experiment stop {experiments[name]}"
                )
        needed = previous is not None and previous.collection == record.collection
        if needed or record.state in (State.LIVE, State.RETIRED):
            if record.collection in found:
                continue
            raise ConfigurationError(
                f"{record.version} is {record.state} and may still be asked for; "
                "switch to another one first, and wait a minute"
            )
        found[record.collection] = record
    return list(found.values())


def _searched_by(home: Home) -> dict[str, str]:
    """Experiments that are not over, by the embedding version that an arm of theirs searches."""
    now = datetime.now(UTC)
    return {
        arm.embedding: experiment.name
        for experiment in ExperimentStore(home.experiments).read().book.experiments
        if experiment.state(now) not in ("ended", "stopped")
        for arm in experiment.arms
        if arm.embedding
    }


async def _drop(address: str, records: Sequence[EmbeddingVersion]) -> None:
    index = MilvusIndex(address)
    try:
        for record in records:
            await index.drop(record.collection)
    finally:
        await index.close()


def unused_artifacts(home: Home) -> list[str]:
    """Versions of the language model that are not live and no record or configuration names.

    None while a mesh runs: its replicas may have started from them.
    """
    store = ArtifactStore(home.artifacts)
    if running_mesh(home) is not None or not store.has_live(EMBEDDER):
        return []
    used = {record.artifact for record in EmbeddingRegistry(home.vectors).records()}
    table = MeshConfig.load().models.get(EMBEDDER)
    used |= {store.live_version(EMBEDDER), table.version if table else ""}
    return [version for version in store.versions(EMBEDDER) if version not in used]


def gc_command(
    versions: Annotated[
        list[str] | None,
        typer.Argument(help="Also these, built or verified and no longer wanted."),
    ] = None,
    uri: Annotated[
        str, typer.Option(help="A Milvus server. Default: the running mesh's, or the embedded.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="What was dropped, as JSON.")] = False,
) -> None:
    """Drops what nobody asks for any more: retired versions, and builds that were left.

    The live version and the one a rollback leads to always stay, and a retired one for a minute,
    while requests that took it end. While no mesh runs, versions of the language model that no
    embedding version names go, too.

    Examples:

        recmesh embed gc

        recmesh embed gc all-MiniLM-L6-v2-int8-8199be6f-d16
    """
    home = Home.from_environment()
    registry, store = EmbeddingRegistry(home.vectors), ArtifactStore(home.artifacts)
    with clear_errors("recmesh embed gc"), only_build(home):
        records = droppable(registry, versions or [], _searched_by(home))
        if records:
            with index_server(home, uri) as address:
                asyncio.run(_drop(address, records))
        # Last, so that the next one completes what was interrupted.
        for record in records:
            registry.remove(record)
        artifacts = unused_artifacts(home)
        for version in artifacts:
            store.remove(EMBEDDER, version)
    if as_json:
        collections = [record.collection for record in records]
        typer.echo(json.dumps({"collections": collections, "artifacts": artifacts}))
    else:
        for record in records:
            typer.echo(f"dropped {record.version}: {record.collection}")
        for version in artifacts:
            typer.echo(f"dropped artifact {EMBEDDER}@{version}")
        if not records and not artifacts:
            typer.echo("nothing to drop")
