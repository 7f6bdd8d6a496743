"""The ``recmesh`` command. Each group of commands lives in a module of its own."""

from __future__ import annotations

import logging
import sys

import structlog
import typer

from recmesh.cli.call import call_command
from recmesh.cli.datasets import datasets_app
from recmesh.cli.down import down_command
from recmesh.cli.embed import embed_app
from recmesh.cli.evaluate import evaluate_app
from recmesh.cli.events import events_app
from recmesh.cli.index import index_command
from recmesh.cli.ingest import ingest_command
from recmesh.cli.policy import policy_app
from recmesh.cli.retrain import retrain_command
from recmesh.cli.serve import serve_command
from recmesh.cli.status import status_command
from recmesh.cli.train import train_command
from recmesh.cli.tune import tune_command
from recmesh.cli.up import up_command
from recmesh.cli.users import app as users_app
from recmesh.cli.world import app as world_app

app = typer.Typer(
    name="recmesh",
    help="A gRPC model-serving mesh for recommendations on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def main() -> None:
    """A gRPC model-serving mesh for recommendations on Ray."""
    # People read what commands print; servers log in full.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        # What commands answer goes to standard output, for scripts to read.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


app.add_typer(datasets_app, name="datasets")
app.command("ingest")(ingest_command)
app.command("index")(index_command)
app.command("serve")(serve_command)
app.command("up")(up_command)
app.command("status")(status_command)
app.command("down")(down_command)
app.command("call")(call_command)
app.command("train")(train_command)
app.command("retrain")(retrain_command)
app.add_typer(users_app, name="users")
app.add_typer(events_app, name="events")
app.add_typer(embed_app, name="embed")
app.add_typer(evaluate_app, name="evaluate")
app.command("tune")(tune_command)
app.add_typer(policy_app, name="policy")
app.add_typer(world_app, name="world")

if __name__ == "__main__":
    app()
