"""``recmesh model new``: a model that trains, passes its tests and deploys as it stands."""

from __future__ import annotations

import getpass
import json
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.model_project import ModelProject

UNKNOWN = "unknown"


def _git(setting: str) -> str:
    """What git knows of whoever asks; empty: nothing."""
    if shutil.which("git") is None:
        return ""
    asked = subprocess.run(
        ["git", "config", "--get", setting], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return UNKNOWN


def new_command(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by dashes.")],
    standalone: Annotated[
        bool, typer.Option("--standalone", help="A project of its own, for its own repository.")
    ] = False,
    into: Annotated[
        Path, typer.Option(help="The repository's root; with --standalone, the folder above.")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Writes a model that trains, passes its tests and deploys as it stands: a small EASE.

    Change it until it is yours. In this repository it is a folder below models/, a test, and a
    line in models/registry.py. A project of its own is known to recmesh once it is installed.

    Examples:

        recmesh model new co-readers

        recmesh model new co-readers --standalone --into ~/models
    """
    with clear_errors("recmesh model new"):
        folder = into.expanduser().resolve()
        project = ModelProject(name, folder / name if standalone else folder, standalone)
        project.check()
        owner, contact = _git("user.name") or _user(), _git("user.email") or _user()
        files = [str(file) for file in project.write(owner, contact)]
    if as_json:
        typer.echo(json.dumps({"name": name, "package": project.import_path, "files": files}))
        return
    for file in files:
        typer.echo(f"  {Path(file).relative_to(folder)}")
    typer.echo("next:")
    if standalone:
        typer.echo(f"  pip install --editable '{project.folder}[dev]'")
    typer.echo(f"  pytest {project.folder / 'tests' if standalone else project.test_file}")
    for step in (f"train {name}", f"model check {name}", f"model canary {name}"):
        typer.echo(f"  recmesh {step}")
