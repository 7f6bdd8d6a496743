"""A command group whose commands are imported when they are called.

Training, tuning and drawing need libraries that take seconds to import; `recmesh call` needs none
of them, and a list of commands is read from their sources.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: dict[str, str] = {
    "datasets": "recmesh.cli.datasets:datasets_app",
    "ingest": "recmesh.cli.ingest:ingest_command",
    "train": "recmesh.cli.train:train_command",
    "retrain": "recmesh.cli.retrain:retrain_command",
    "index": "recmesh.cli.index:index_command",
    "up": "recmesh.cli.up:up_command",
    "serve": "recmesh.cli.serve:serve_command",
    "status": "recmesh.cli.status:status_command",
    "top": "recmesh.cli.top:top_command",
    "trace": "recmesh.cli.trace:trace_command",
    "down": "recmesh.cli.down:down_command",
    "edge": "recmesh.cli.edge:edge_app",
    "call": "recmesh.cli.call:call_command",
    "swipe": "recmesh.cli.swipe:swipe_command",
    "load": "recmesh.cli.load:load_command",
    "explain": "recmesh.cli.explain:explain_command",
    "replay": "recmesh.cli.replay:replay_command",
    "ope": "recmesh.cli.ope:ope_command",
    "events": "recmesh.cli.events:events_app",
    "campaigns": "recmesh.cli.campaigns:campaigns_app",
    "diagnose": "recmesh.cli.diagnose:diagnose_command",
    "users": "recmesh.cli.users:app",
    "embed": "recmesh.cli.embed:embed_app",
    "evaluate": "recmesh.cli.evaluate:evaluate_app",
    "tune": "recmesh.cli.tune:tune_command",
    "policy": "recmesh.cli.policy:policy_app",
    "experiment": "recmesh.cli.experiment:experiment_app",
    "model": "recmesh.cli.model:model_app",
    "lineage": "recmesh.cli.lineage:lineage_command",
    "backup": "recmesh.cli.backup:backup_app",
    "world": "recmesh.cli.world:app",
}
"""Where each command is, in the order of ``--help``: a function, or an application of its own."""


def described(place: str) -> str:
    """What a command says of itself, without importing it.

    That is the docstring of its function, or the ``help`` of its application, or else the docstring
    of the application's callback.
    """
    module, _, attribute = place.partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    callback = ""
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) if name == attribute:
                return ast.get_docstring(node) or ""
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(keywords=keywords)) if (
                name == attribute
            ):
                for keyword in keywords:
                    if keyword.arg == "help":
                        return str(ast.literal_eval(keyword.value))
            case ast.FunctionDef(decorator_list=[ast.Call(func=ast.Attribute(attr="callback"))]):
                callback = ast.get_docstring(node) or ""
    return callback


class LazyCommands(TyperGroup):
    """The group of ``recmesh``."""

    places: Mapping[str, str] = COMMANDS
    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help of the group, with a line for each command."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of ``--help``."""
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; None when there is none of that name."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=described(place))
        module, _, attribute = place.partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            made = typer.Typer(add_completion=False, rich_markup_mode="rich")
            made.command(cmd_name)(found)
            found = made
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command
