"""``recmesh policy``: versions of the policy, and which one serves."""

from __future__ import annotations

import difflib
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Column, Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.policy_plot import plot_command
from recmesh.cli.served_policy import configured_text, served_policy
from recmesh.offline.tuning.policy_artifact import rechosen
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.home import Home

policy_app = typer.Typer(
    add_completion=False,
    help="Versions of the policy: blend weights and slate rules of every surface.",
    no_args_is_help=True,
)
Version = Annotated[str, typer.Argument(help="Version; recmesh policy list shows them.")]
AsJson = Annotated[bool, typer.Option("--json", help="The answer as JSON.")]
CONFIGURED = "the configured file"


def _store() -> PolicyStore:
    return PolicyStore(Home.from_environment().policies)


@policy_app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Lists the versions, oldest first, and marks the one that serves.

    Examples:

        recmesh policy list
    """
    with clear_errors("recmesh policy list"):
        store = _store()
        live = store.live()
        found = [
            {"version": version, "live": version == live, **store.card(version)}
            for version in store.versions()
        ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo("no version yet: the configured file serves; make one: recmesh tune")
        return
    table = Table(
        "",
        Column("version", no_wrap=True),
        "surface",
        Column("rule", overflow="fold"),
        "measured",
        "made",
    )
    for one in found:
        measured = ", ".join(f"{name} {value:.3f}" for name, value in one["metrics"].items())
        marks = "live" if one["live"] else ""
        table.add_row(
            marks, one["version"], one["surface"], one["rule"], measured, one["created_at"]
        )
    Console().print(table)


@policy_app.command("show")
def show_command(version: Version = "", as_json: AsJson = False) -> None:
    """Shows a version, with where it comes from; without one, what serves.

    Examples:

        recmesh policy show

        recmesh policy show tuned-feed-0a1b2c3d4e5f --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh policy show"):
        store = PolicyStore(home.policies)
        chosen = version or store.live()
        text = store.text(chosen) if chosen else configured_text(home)
        card = store.card(chosen) if chosen else {}
    if as_json:
        typer.echo(json.dumps({"version": chosen or CONFIGURED, "card": card, "policy": text}))
        return
    console = Console()
    if card:
        console.print_json(data=card)
    console.print(Syntax(text, "toml", background_color="default"))


@policy_app.command("diff")
def diff_command(
    version: Version,
    other: Annotated[str, typer.Argument(help="Default: what serves.")] = "",
) -> None:
    """Shows what a version says otherwise than another; fronts are left out.

    Examples:

        recmesh policy diff tuned-feed-0a1b2c3d4e5f
    """
    home = Home.from_environment()
    with clear_errors("recmesh policy diff"):
        second, first = served_policy(home, version), served_policy(home, other)
    left_out = {"surfaces": {name: {"front"} for name in (*first.surfaces, *second.surfaces)}}
    before, after = (
        json.dumps(one.model_dump(mode="json", exclude=left_out), indent=1).splitlines()
        for one in (first, second)
    )
    for line in difflib.unified_diff(
        before, after, first.version, second.version, lineterm="", n=1
    ):
        typer.echo(line)


@policy_app.command("choose")
def choose_command(
    version: Version,
    rule: Annotated[str, typer.Argument(help='knee, or "ndcg>=0.98*best, maximize diversity".')],
    surface: Annotated[str, typer.Option(help="The tuned surface.")] = "feed",
    as_json: AsJson = False,
) -> None:
    """Makes a version that serves another point of the same front.

    Examples:

        recmesh policy choose tuned-feed-0a1b2c3d4e5f "ndcg>=0.95*best, maximize diversity"
    """
    with clear_errors("recmesh policy choose"):
        store = _store()
        made = rechosen(store, version, surface, rule)
        metrics = store.card(made)["metrics"]
    if as_json:
        typer.echo(json.dumps({"version": made, "metrics": metrics}))
    else:
        measured = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        typer.echo(f"policy {made}: {measured}; next: recmesh policy promote {made}")


@policy_app.command("promote")
def promote_command(version: Version, as_json: AsJson = False) -> None:
    """Makes a version live. Orchestrators take it over between two requests, within a second.

    Examples:

        recmesh policy promote tuned-feed-0a1b2c3d4e5f
    """
    with clear_errors("recmesh policy promote"):
        changed = _store().make_live(version)
    if as_json:
        typer.echo(json.dumps({"version": version, "changed": changed}))
    else:
        typer.echo(f"{version} {'is live' if changed else 'was live already'}")


@policy_app.command("rollback")
def rollback_command(as_json: AsJson = False) -> None:
    """Makes what was live before live again, at once.

    Examples:

        recmesh policy rollback
    """
    with clear_errors("recmesh policy rollback"):
        version = _store().rollback()
    if as_json:
        typer.echo(json.dumps({"version": version or CONFIGURED, "changed": True}))
    else:
        typer.echo(f"{version or CONFIGURED} is live")


policy_app.command("plot")(plot_command)
