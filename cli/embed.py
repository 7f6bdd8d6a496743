"""``recmesh embed``: encoders, and embedding versions from build to switch."""

from __future__ import annotations

import typer

from recmesh.cli.embed_build import build_command
from recmesh.cli.embed_export import export_command
from recmesh.cli.embed_finetune import finetune_command
from recmesh.cli.embed_gc import gc_command
from recmesh.cli.embed_list import list_command
from recmesh.cli.embed_switch import rollback_command, switch_command
from recmesh.cli.embed_verify import verify_command

embed_app = typer.Typer(
    add_completion=False, help="Encoders of texts, and their vectors.", no_args_is_help=True
)


@embed_app.callback()
def embed() -> None:
    """Encoders of texts, and their vectors."""


embed_app.command("finetune")(finetune_command)
embed_app.command("export")(export_command)
embed_app.command("build")(build_command)
embed_app.command("verify")(verify_command)
embed_app.command("switch")(switch_command)
embed_app.command("rollback")(rollback_command)
embed_app.command("list")(list_command)
embed_app.command("gc")(gc_command)
