"""``recmesh tune``: the Pareto front of a surface, and a policy chosen from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.served_policy import served_policy
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.tuning_workers import search_on_ray
from recmesh.cli.written_data import current_dataset, mesh_config
from recmesh.deployments.mesh_record import running_mesh
from recmesh.models.model import Progress
from recmesh.offline.tuning.operating_point import checked_rule
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.policy_artifact import published
from recmesh.offline.tuning.report import TuningReport
from recmesh.offline.tuning.study import DEFAULT_SAMPLER, SAMPLERS
from recmesh.offline.tuning.trial import TrialRun
from recmesh.offline.tuning.tune import Settings, Tuning
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def _print(report: TuningReport, console: Console) -> None:
    console.print(report.summary(), highlight=False)
    for rows in (report.fronts_table(), report.points_table()):
        head, *rest = rows
        table = Table(*head)
        for row in rest:
            table.add_row(*row)
        console.print(table)
    console.print(
        f"{report.trials_per_minute:,.0f} trials a minute, {report.seconds:.0f} s in all",
        style="dim",
        highlight=False,
    )


def tune_command(
    surface: Annotated[str, typer.Option(help="A surface of items without a query.")] = "feed",
    trials: Annotated[int, typer.Option(min=10, help="Trials that the study is to have.")] = 1000,
    metrics: Annotated[
        str,
        typer.Option(
            help="Two to four of ndcg, diversity, novelty, freshness, delivery, by comma."
        ),
    ] = "ndcg,diversity",
    choose: Annotated[
        str, typer.Option(help='knee, or a rule such as "ndcg>=0.98*best, maximize diversity".')
    ] = "knee",
    sampler: Annotated[str, typer.Option(help=", ".join(SAMPLERS))] = DEFAULT_SAMPLER,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on Ray that try side by side.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    bootstrap_samples: Annotated[int, typer.Option(min=10, help="Resamples of the users.")] = 200,
    policy: Annotated[
        str, typer.Option(help="Version or file to start from. Default: the live policy.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Report file, .json or .md.")] = None,
) -> None:
    """Searches a surface's Pareto front and writes a policy version from it.

    Models are trained on what lies before a validation period, on which blends are tried; the
    front is judged once, on the period after it, against the single models, a uniform blend, the
    policy as it is, and random search. Trials are kept: stopped, or asked for more trials, the
    same command goes on. --workers tries on the running mesh's Ray cluster, the configured one, or
    one that is started for it. Nothing is served until: recmesh policy promote

    Examples:

        recmesh tune

        recmesh tune --surface swipe --trials 4000 --workers 8

        recmesh tune --choose "ndcg>=0.98*best, maximize diversity" --out front.md
    """
    home = Home.from_environment()
    with clear_errors("recmesh tune"):
        if out is not None and out.suffix not in (".json", ".md"):
            raise ConfigurationError(f"--out {out} ends in {out.suffix!r}; use .json or .md")
        store = PolicyStore(home.policies)
        base = served_policy(home, policy)
        named = tuple(name.strip() for name in metrics.split(",") if name.strip())
        checked_rule(choose, named)
        settings = Settings(
            surface=surface,
            trials=trials,
            metrics=named,
            sampler=sampler,
            seed=seed,
            bootstrap_samples=bootstrap_samples,
        )
        tuning = Tuning(
            current_dataset(home), base, settings, home.tuning, text_vectors=home.text_vectors
        )
        with StageProgress(as_json) as shown:

            def on_ray(
                run: TrialRun, chosen: str, start: Sequence[Parameters], progress: Progress
            ) -> None:
                running = running_mesh(home)
                address = running.ray_address if running else mesh_config(home).ray.address
                search_on_ray(
                    home,
                    address,
                    run,
                    tuning.journal,
                    chosen,
                    seed,
                    trials,
                    workers,
                    start,
                    progress,
                )

            try:
                tuned = tuning.run(shown.stage, search=on_ray if workers > 1 else None)
            except KeyboardInterrupt:
                typer.echo("stopped; what was tried is kept, the same command goes on", err=True)
                raise typer.Exit(130) from None
        version = published(store, base, tuned, choose)
        report = tuned.report
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            text = report.as_json() + "\n" if out.suffix == ".json" else report.as_markdown()
            out.write_text(text)
    if as_json:
        typer.echo(report.as_json())
        return
    _print(report, Console())
    typer.echo(f"policy {version} by {choose}; next: recmesh policy promote {version}")
