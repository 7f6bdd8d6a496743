"""A command group whose commands are imported when they are called.

Training, tuning and drawing need libraries that take seconds to import; `recmesh call` needs none
of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, str] = {
    "datasets": "recmesh.cli.datasets:datasets_app",
    "ingest": "recmesh.cli.ingest:ingest_command",
    "train": "recmesh.cli.train:train_command",
    "retrain": "recmesh.cli.retrain:retrain_command",
    "index": "recmesh.cli.index:index_command",
    "up": "recmesh.cli.up:up_command",
    "serve": "recmesh.cli.serve:serve_command",
    "status": "recmesh.cli.status:status_command",
    "down": "recmesh.cli.down:down_command",
    "call": "recmesh.cli.call:call_command",
    "swipe": "recmesh.cli.swipe:swipe_command",
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
    "world": "recmesh.cli.world:app",
}
"""Where each command is, in the order of ``--help``: a function, or an application of its own."""


class LazyCommands(TyperGroup):
    """The group of ``recmesh``."""

    places: Mapping[str, str] = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of ``--help``."""
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; None when there is none of that name."""
        place = self.places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            made = typer.Typer(add_completion=False, rich_markup_mode="rich")
            made.command(cmd_name)(found)
            found = made
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command
