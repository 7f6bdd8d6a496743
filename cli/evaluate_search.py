"""``recmesh evaluate search``: what search is worth on judged queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.progress import Progress as Bars
from rich.table import Table

from recmesh.deployments.edge_channel import edge_of
from recmesh.models.nlp.encoder import Encoder
from recmesh.offline.search.evaluate import Ask, evaluate_search
from recmesh.offline.search.report import SearchReport
from recmesh.storage.errors import ConfigurationError, RecMeshError, UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

SURFACE = "search"
NOBODY = "recmesh-evaluate"
"""A user without profile and history."""
ASK_TIMEOUT_S = 2.0


def _print(report: SearchReport, console: Console) -> None:
    console.print(report.summary(), highlight=False)
    head, *rows = report.table()
    table = Table(*head)
    for row in rows:
        table.add_row(*row, style="bold" if row[0].startswith("ours") else "")
    console.print(table)
    for sentence in report.compared():
        console.print(f"[bold]{sentence}[/bold]", highlight=False)


@contextmanager
def _asking(address: str) -> Iterator[Ask | None]:
    """Asks the mesh as somebody whom it does not know; None without an address."""
    if not address:
        yield None
        return
    with edge_of(Home.from_environment(), address).channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)

        def ask(query: str, items: int) -> Sequence[str]:
            request = recommendation_pb2.RecommendRequest(
                surface=SURFACE, user_id=NOBODY, query=query, page_size=items
            )
            page = stub.Recommend(request, timeout=ASK_TIMEOUT_S)
            if page.degraded:
                lost = page.degradations[0]
                raise UnavailableError(
                    f"the mesh answered without {lost.component} ({lost.reason}), so what it "
                    "serves was not judged"
                )
            return [slot.item_id for slot in page.recommendations]

        try:
            yield ask
        except grpc.RpcError as error:
            raise UnavailableError(
                f"the mesh at {address}: {error.code().name}, {error.details()}"
            ) from error


def evaluate_search_command(
    data: Annotated[
        Path,
        typer.Option(help="NFCorpus as downloaded, or a folder of `recmesh datasets convert`."),
    ],
    split: Annotated[
        str, typer.Option(help="test, dev, or half of one: dev-tune, dev-validate.")
    ] = "test",
    encoder: Annotated[
        str, typer.Option(help="Name or folder. Default: $RECMESH_ENCODER, else the packaged one.")
    ] = "",
    mesh: Annotated[
        str,
        typer.Option(help="host:port of a running mesh that serves these items: judge it, too."),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    bootstrap_samples: Annotated[
        int, typer.Option(min=10, help="Resamples of the queries.")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Report file, .json or .md.")] = None,
) -> None:
    """Judges search against BM25, the encoder alone, and two fusions of both.

    Vectors of texts are kept below $RECMESH_HOME, so a second run takes seconds. Settings were
    chosen on dev queries; see docs/search.md.

    Examples:

        recmesh evaluate search --data nfcorpus

        recmesh evaluate search --data nfcorpus --split dev --json

        recmesh evaluate search --data converted/pubmedqa --out report.md

        recmesh evaluate search --data converted/pubmedqa --mesh 127.0.0.1:50051
    """
    try:
        if out is not None and out.suffix not in (".json", ".md"):
            raise ConfigurationError(f"--out {out} ends in {out.suffix!r}; use .json or .md")
        with (
            Bars(console=Console(stderr=True), transient=True) as bars,
            _asking(mesh) as served,
        ):
            task = bars.add_task("reading", total=None)
            report = evaluate_search(
                data,
                split,
                Encoder.choose(encoder),
                Home.from_environment().text_vectors,
                seed=seed,
                bootstrap_samples=bootstrap_samples,
                served=served,
                progress=lambda done, total, what: bars.update(
                    task, completed=done, total=total, description=what
                ),
            )
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            text = report.as_json() + "\n" if out.suffix == ".json" else report.as_markdown()
            out.write_text(text)
    except RecMeshError as error:
        typer.echo(f"recmesh evaluate search: {error}", err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(report.as_json())
    else:
        _print(report, Console())
