"""``recmesh backup``: a whole installation in one file, and back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.backup import Manifest, Watch, make_backup, restore_backup
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

backup_app = typer.Typer(
    add_completion=False,
    help="A whole installation in one file, and back.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="What it holds as JSON.")]
ToRead = Annotated[Path, typer.Argument(metavar="FILE", help="Of recmesh backup create.")]
MIB = 1 << 20


@backup_app.callback()
def backup() -> None:
    """A whole installation in one file, and back."""


@contextmanager
def _progress(quiet: bool) -> Iterator[Watch]:
    with progress_bars(quiet) as bars:
        task = bars.add_task("", total=None)
        yield lambda name: bars.update(task, description=name)


def _say(manifest: Manifest, line: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(manifest)))
        return
    rows = sum(manifest.rows.values())
    typer.echo(
        f"{line}: {len(manifest.files):,} files, {manifest.bytes / MIB:,.1f} MiB, {rows:,} rows of "
        f"{len(manifest.rows)} tables, of {manifest.made_at}"
    )


@backup_app.command("create")
def create_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To be written, a .tar.")],
    as_json: AsJson = False,
) -> None:
    """Writes data, artifacts, policies, experiments, keys and all rows, while the mesh serves.

    The file holds secrets and personal data; only its owner can read it. Vectors are not in it:
    recmesh index makes them of the rest.

    Examples:

        recmesh backup create backup.tar

        recmesh backup create /mnt/backups/$(date +%F).tar --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh backup create"), _progress(as_json) as watch:
        manifest = make_backup(file, home, mesh_config(home).database.uri, watch)
    _say(manifest, str(file), as_json)


@backup_app.command("check")
def check_command(file: ToRead, as_json: AsJson = False) -> None:
    """Rehearses the restoring of a backup in a folder of its own, which it removes again.

    Every file is held against its hash, every row is put into a new SQLite, and data and live
    models are opened.

    Examples:

        recmesh backup check backup.tar
    """
    with (
        clear_errors("recmesh backup check"),
        tempfile.TemporaryDirectory(prefix="recmesh-backup-") as folder,
        _progress(as_json) as watch,
    ):
        home = Home(Path(folder) / "home")
        manifest = restore_backup(file, home, "", watch)
        if home.dataset.is_dir():
            Dataset.open(home.dataset)
        store = ArtifactStore(home.artifacts)
        models = [m.name for m in home.artifacts.glob("*") if m.is_dir() and store.has_live(m.name)]
        for model in models:
            watch(model)
            store.load(model, "")
    _say(manifest, f"{file} restores", as_json)


@backup_app.command("restore")
def restore_command(file: ToRead, as_json: AsJson = False) -> None:
    """Puts a backup into the folder that RECMESH_HOME names, which has nothing yet.

    With database.uri, rows go into that PostgreSQL, which must be empty; a backup of SQLite
    restores into PostgreSQL, and back.

    Examples:

        RECMESH_HOME=/srv/recmesh recmesh backup restore backup.tar
    """
    home = Home.from_environment()
    with clear_errors("recmesh backup restore"), _progress(as_json) as watch:
        if running_mesh(home) is not None:
            raise ConfigurationError("a mesh runs in this folder; stop it first: recmesh down")
        manifest = restore_backup(file, home, mesh_config(home).database.uri, watch)
    _say(manifest, f"{home.root} restored", as_json)
    if not as_json:
        typer.echo("next:\n  recmesh index\n  recmesh up")
