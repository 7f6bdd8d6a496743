"""``recmesh model``: a model from its folder to all traffic, by its owner alone."""

from __future__ import annotations

import typer

from recmesh.cli.lazy_commands import LazyCommands


class ModelCommands(LazyCommands):
    """The group of ``recmesh model``, in the order in which an owner needs them."""

    places = {  # noqa: RUF012 - never written to
        "new": "recmesh.cli.model_new:new_command",
        "serve": "recmesh.cli.model_serve:serve_command",
        "check": "recmesh.cli.model_check:check_command",
        "deploy": "recmesh.cli.model_deploy:deploy_command",
        "scale": "recmesh.cli.model_scale:scale_command",
        "status": "recmesh.cli.model_status:status_command",
        "logs": "recmesh.cli.model_logs:logs_command",
        "shadow": "recmesh.cli.model_shadow:shadow_command",
        "canary": "recmesh.cli.model_canary:canary_command",
        "watch": "recmesh.cli.model_watch:watch_command",
        "promote": "recmesh.cli.model_promote:promote_command",
        "abort": "recmesh.cli.model_abort:abort_command",
        "rollback": "recmesh.cli.model_rollback:rollback_command",
        "remove": "recmesh.cli.model_remove:remove_command",
        "list": "recmesh.cli.model_list:list_command",
        "history": "recmesh.cli.model_history:history_command",
        "card": "recmesh.cli.model_card:card_command",
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
