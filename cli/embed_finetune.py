"""``recmesh embed finetune``: an encoder that knows your data."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.written_data import current_dataset
from recmesh.models.model import Progress
from recmesh.models.nlp.finetuning.trainer import FineTuning
from recmesh.offline.evaluation.report import shown
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.finetune import BASE, HardNegatives, Outcome, finetune, split_off
from recmesh.offline.search.training_examples import Source, read_examples
from recmesh.storage.home import Home

DEFAULTS = FineTuning()


def finetune_command(
    data: Annotated[
        Path,
        typer.Option(
            help="What to learn from: a folder of `recmesh datasets convert`, NFCorpus as "
            "downloaded, or an ingested data set ($RECMESH_HOME/dataset) with its clicks."
        ),
    ],
    source: Annotated[
        Source | None,
        typer.Option(help="Which part of it. Default: clicks, queries, citations or titles."),
    ] = None,
    judged: Annotated[
        Path | None,
        typer.Option(
            help="Judged queries that decide. Default: a tenth of the examples, held out."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Which of the judged queries.")] = "dev",
    base: Annotated[str, typer.Option(help="Encoder to start from: name or folder.")] = BASE,
    steps: Annotated[int, typer.Option(min=1, help="Batches to learn from.")] = DEFAULTS.steps,
    batch: Annotated[int, typer.Option(min=2, help="Pairs a batch.")] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = DEFAULTS.learning_rate,
    dims: Annotated[
        list[int] | None, typer.Option(help="Shorter vectors that must do well too (Matryoshka).")
    ] = None,
    hard_negatives: Annotated[
        HardNegatives, typer.Option(help="What finds texts that look right and are not.")
    ] = HardNegatives.NONE,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The outcome as JSON.")] = False,
) -> None:
    """Fine-tunes the encoder on your data; keeps it only if unseen queries are ranked better.

    Stopped or killed, the same command goes on where it was. An encoder whose gain is not above
    0 throughout its 95% interval is refused: nothing is kept, and the exit status is 1.

    Examples:

        recmesh embed finetune --data nfcorpus --judged nfcorpus --split dev-validate

        recmesh embed finetune --data converted/medquad --steps 100 --json

        recmesh embed finetune --data .recmesh/dataset --source clicks --hard-negatives bm25
    """
    home = Home.from_environment()
    with clear_errors("recmesh embed finetune"):
        settings = FineTuning(
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            dims=tuple(dims or ()),
            seed=seed,
        )
        # Those who were erased teach nothing.
        examples = read_examples(
            data, source, lambda folder: current_dataset(Home(folder.resolve().parent))
        )
        if judged is None:
            examples, collection = split_off(examples)
            judged_on = f"a tenth of {data.resolve().name}, held out"
        else:
            collection = SearchCollection.load(judged, split)
            judged_on = f"{judged.resolve().name}, {split}"
        with progress_bars(as_json) as bars:

            def stage(name: str) -> Progress:
                task = bars.add_task(name, total=None)
                return lambda done, total, what: bars.update(
                    task, completed=done, total=total, description=f"{name}: {what}"
                )

            outcome = finetune(
                examples,
                collection,
                judged_on,
                home,
                settings,
                base=base,
                hard_negatives=hard_negatives,
                steps=stage,
            )
    if as_json:
        typer.echo(json.dumps(asdict(outcome), indent=2))
    else:
        _print(outcome)
    if not outcome.adopted:
        raise typer.Exit(1)


def _print(outcome: Outcome) -> None:
    typer.echo(
        f"{outcome.queries:,} queries of {outcome.judged_on}: nDCG@10 "
        f"{shown(outcome.base_ndcg_at_10)} before, {shown(outcome.ndcg_at_10)} after; gain "
        f"{shown(outcome.gain, True)}, recall@100 {shown(outcome.recall_gain, True)} (paired)"
    )
    if outcome.adopted:
        typer.echo(
            f"kept as {outcome.version}; next: recmesh embed build --encoder {outcome.folder}"
        )
    else:
        typer.echo("refused: the gain's interval is not above 0, so nothing was kept")
