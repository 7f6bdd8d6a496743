"""``recmesh model deploy``: a model's owner puts a version into service."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recmesh.cli.actor import By
from recmesh.cli.owners_command import owners_command
from recmesh.deployments.deploy_model import Deployment, deploy_model
from recmesh.deployments.deployed_models import DeployedModel
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.storage.errors import ConfigurationError, RecMeshError


def said(deployment: Deployment) -> str:
    """One line for people."""
    name = f"{deployment.model}@{deployment.version}"
    if not deployment.changed:
        return f"{name} is deployed like this already"
    before = (
        f", {deployment.before} before" if deployment.before not in ("", deployment.version) else ""
    )
    if deployment.serves:
        return f"{name} serves{before}"
    return f"{name} is live{before}; no mesh runs here, so it was not tried; the next one runs it"


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise ConfigurationError(f"{folder} has no file NAME.toml")
    return files


def _of_file(mesh: OwnersMesh, file: Path) -> Deployment:
    wish = DeployedModel.load(file)
    return deploy_model(mesh, wish.name, wish.version, wish.replicas)


def _all(mesh: OwnersMesh, files: list[Path]) -> tuple[list[Deployment], list[str]]:
    """Each by itself: one that fails keeps no other from being deployed."""
    made: list[Deployment] = []
    failed: list[str] = []
    for file in files:
        try:
            made.append(_of_file(mesh, file))
        except RecMeshError as error:
            failed.append(f"{file}: {error}")
    return made, failed


def deploy_command(
    what: Annotated[
        str, typer.Argument(metavar="[NAME|FILE.toml]", help="A model, or a file that says all.")
    ] = "",
    version: Annotated[
        str, typer.Option(help="Of its artifacts; the beginning is enough. Default: the live one.")
    ] = "",
    from_folder: Annotated[
        Path | None, typer.Option("--from", help="Deploy every FILE.toml of a folder.")
    ] = None,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Puts a version of a model into service, without a request failing.

    One replica is tried first, beside what serves; only a version that comes up and answers is
    rolled out, and then it is live. One that does not is reported with its own error, and what
    served serves on. Number of replicas and the like are as before, or as FILE.toml says; what
    the mesh's configuration says wins. Deploying what is deployed already changes nothing.

    Examples:

        recmesh model deploy cf

        recmesh model deploy cf --version 5d1e37d2

        recmesh model deploy deployed/cf.toml

        recmesh model deploy --from deployed
    """
    with owners_command("recmesh model deploy", by) as mesh:
        if bool(what) == bool(from_folder):
            raise ConfigurationError("say a model, a file, or a folder with --from")
        if version and (from_folder or what.endswith(".toml")):
            raise ConfigurationError("--version goes with a model's name; a file says its own")
        failed: list[str] = []
        if from_folder:
            made, failed = _all(mesh, _files(from_folder))
        elif what.endswith(".toml"):
            made = [_of_file(mesh, Path(what))]
        else:
            made = [deploy_model(mesh, what, version)]
    if as_json:
        answers = [asdict(one) for one in made]
        typer.echo(
            json.dumps({"deployed": answers, "failed": failed} if from_folder else answers[0])
        )
    else:
        for one in made:
            typer.echo(said(one))
    for line in failed:
        typer.echo(f"recmesh model deploy: {line}", err=True)
    if failed:
        raise typer.Exit(1)
