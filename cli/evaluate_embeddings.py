"""``recmesh evaluate embeddings``: which way to make a vector finds the most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import Progress as Bars
from rich.table import Table

from recmesh.cli.written_data import current_dataset
from recmesh.models.model import Progress
from recmesh.models.nlp.encoder import Encoder
from recmesh.offline.embeddings.ablation import Ablation
from recmesh.offline.embeddings.campaigns import compare_campaigns
from recmesh.offline.embeddings.content import compare_content
from recmesh.offline.embeddings.doctors import compare_doctors
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home

embeddings_app = typer.Typer(help="Ways to make vectors, compared.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="All figures as JSON.")]
EncoderChoice = Annotated[
    str, typer.Option(help="Name or folder. Default: $RECMESH_ENCODER, else the packaged one.")
]


def _compared(compare: Callable[[Progress], Ablation], as_json: bool) -> None:
    try:
        with Bars(console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task("reading", total=None)
            ablation = compare(
                lambda done, total, what: bars.update(
                    task, completed=done, total=total, description=what
                )
            )
    except RecMeshError as error:
        typer.echo(f"recmesh evaluate embeddings: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(ablation.as_json())
        return
    console = Console()
    console.print(ablation.summary, highlight=False)
    head, *rows = ablation.table()
    table = Table(*head)
    for place, row in enumerate(rows):
        table.add_row(*row, style="bold" if place == 0 else "")
    console.print(table)


class _Comparison(Protocol):
    def __call__(
        self,
        dataset: Dataset,
        encoder: Encoder,
        cache: Path | None,
        progress: Progress,
    ) -> Ablation: ...


def _compared_on_ingested(compare: _Comparison, encoder: str, as_json: bool) -> None:
    home = Home.from_environment()
    _compared(
        lambda progress: compare(
            current_dataset(home),
            Encoder.choose(encoder),
            home.text_vectors,
            progress,
        ),
        as_json,
    )


@embeddings_app.command("content")
def content_command(
    data: Annotated[
        Path,
        typer.Option(help="NFCorpus as downloaded, or a folder of `recmesh datasets convert`."),
    ],
    split: Annotated[str, typer.Option(help="Which judged queries.")] = "dev",
    encoder: EncoderChoice = "",
    as_json: AsJson = False,
) -> None:
    """Which part of an item's text its vector should hold: title, opening, passages.

    The first line is what is served; the others' gains over it are paired, query by query.

    Examples:

        recmesh evaluate embeddings content --data nfcorpus
    """
    _compared(
        lambda progress: compare_content(
            data,
            split,
            Encoder.choose(encoder),
            Home.from_environment().text_vectors,
            progress,
        ),
        as_json,
    )


@embeddings_app.command("doctors")
def doctors_command(
    encoder: EncoderChoice = "",
    as_json: AsJson = False,
) -> None:
    """How a doctor becomes vectors: history, profile, searches, one mean or several interests.

    On the ingested data set: vectors of what was known before the last fifth of the events,
    judged on what was wanted in it.

    Examples:

        recmesh world generate --out world && recmesh ingest world

        recmesh evaluate embeddings doctors
    """
    _compared_on_ingested(compare_doctors, encoder, as_json)


@embeddings_app.command("campaigns")
def campaigns_command(
    encoder: EncoderChoice = "",
    as_json: AsJson = False,
) -> None:
    """How a campaign becomes a vector: its items, its targeting, the doctors it won.

    On the ingested data set: judged on who answered in the second half of a campaign's showing,
    among those who had not answered before.

    Examples:

        recmesh world generate --out world && recmesh ingest world

        recmesh evaluate embeddings campaigns
    """
    _compared_on_ingested(compare_campaigns, encoder, as_json)
