"""The ``recmesh`` command; :mod:`recmesh.cli.lazy_commands` lists what it can do."""

from __future__ import annotations

import logging
import sys

import structlog
import typer

from recmesh.cli.lazy_commands import LazyCommands

app = typer.Typer(
    name="recmesh",
    cls=LazyCommands,
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


if __name__ == "__main__":
    app()
