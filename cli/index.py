"""``recmesh index``: the live language model's vectors, built, verified and switched to."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.embed_build import build, only_build
from recmesh.cli.embed_switch import switch
from recmesh.cli.embed_verify import verify
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import State
from recmesh.storage.home import Home


def index_command(
    uri: Annotated[
        str, typer.Option(help="A Milvus server. Default: the running mesh's, or the embedded.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Indexes the items' vectors of the live language model and makes them live.

    The live collection serves on until the new one is complete and verified. Running it again
    without new data or a new model does nothing. Step by step: recmesh embed

    Examples:
        recmesh index
        recmesh index --uri http://milvus:19530
    """
    home = Home.from_environment()
    with clear_errors("recmesh index"), only_build(home):
        dataset = current_dataset(home)
        artifact = ArtifactStore(home.artifacts).load("nlp")
        with progress_bars(as_json) as progress:
            record, changed = build(home, dataset, artifact, uri, progress)
        if record.state is State.BUILT:
            record = verify(home, record, uri)
        changed = switch(home, record) or changed
    if as_json:
        result = {"collection": record.collection, "count": record.count, "changed": changed}
        typer.echo(json.dumps({"embedding_version": record.version, **result}))
    else:
        done = "indexed" if changed else "already indexed"
        typer.echo(f"{record.count} items {done} in {record.collection}")
        running = running_mesh(home)
        if running and changed and not running.index_uri:
            typer.echo("the running mesh searches it after: recmesh down && recmesh up")
