"""``recmesh model``: a model from its folder to all traffic, by its owner alone."""

from __future__ import annotations

import typer

from recmesh.cli.lazy_commands import LazyCommands


class ModelCommands(LazyCommands):
    """The group of ``recmesh model``, in the order in which an owner needs them."""

    places = {  # noqa: RUF012 - never written to
        "new": "recmesh.cli.model_new:new_command",
        "serve": "recmesh.cli.model_serve:serve_command",
        "shadow": "recmesh.cli.model_shadow:shadow_command",
        "canary": "recmesh.cli.model_canary:canary_command",
        "watch": "recmesh.cli.model_watch:watch_command",
        "promote": "recmesh.cli.model_promote:promote_command",
        "abort": "recmesh.cli.model_abort:abort_command",
    }


model_app = typer.Typer(
    add_completion=False,
    cls=ModelCommands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Models of one's own: make, check, deploy, try beside what serves, promote.",
)


@model_app.callback()
def model() -> None:
    """Models of one's own: make, check, deploy, try beside what serves, promote."""
