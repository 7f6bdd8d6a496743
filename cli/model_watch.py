"""``recmesh model watch``: how a canary does; rolled back when its guardrails break."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from recmesh.cli.canary_experiment import canaries, most_percent
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.experiment_results import report_of
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.trial_stage import give_up
from recmesh.deployments.beside import remove_beside
from recmesh.deployments.mesh_token import mesh_token
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.deployments.trial_reader import TrialState, read_trials
from recmesh.deployments.trial_stopper import WHO as ERRORS
from recmesh.models.registry import check_known
from recmesh.offline.experiments.experiment_report import ExperimentReport
from recmesh.orchestrator.experiments.experiment import Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.errors import NotFoundError, UnavailableError
from recmesh.storage.home import Home

ROLLED_BACK = 3
"""Exit status."""
WHO = "quality guard"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a canary."""

    canary: Experiment
    state: TrialState | None
    report: ExperimentReport | None
    """None: no event of its pages is recorded yet."""
    ended: str = ""
    """Why it does not run any more; empty: it does."""
    rolled_back: bool = False

    def told(self) -> dict[str, Any]:
        """For scripts."""
        analysis = self.report.analysis if self.report else None
        return {
            "experiment": self.canary.name,
            "percent": most_percent(self.canary) * self.canary.ramp,
            "doctors": self.report.units if self.report else 0,
            "trial": self.state.as_json() if self.state else None,
            "guardrails": {
                one.metric: one.guardrail.always_valid
                for one in (analysis.guardrails if analysis else ())
            },
            "ended": self.ended,
            "rolled_back": self.rolled_back,
        }


def _broken(report: ExperimentReport) -> str:
    """Which guardrail is shown to be broken; empty: none is."""
    if report.sample_ratio.mismatch:
        return "its doctors are not split as they should be, so nothing it says can be believed"
    for one in report.analysis.guardrails if report.analysis else ():
        if one.guardrail.always_valid == "broken":
            return (
                f"{one.metric} is {one.effect.treatment:.4g} against {one.effect.control:.4g}, "
                f"which is past its margin"
            )
    return ""


def look(home: Home, model: str, states: list[TrialState]) -> Look:
    """Looks once, and stops what is to be stopped.

    Raises:
        NotFoundError: the model has had no canary.
    """
    store = ExperimentStore(home.experiments)
    stored = store.read()
    found = canaries(stored, model)
    if not found:
        raise NotFoundError(f"{model} has had no canary; start one: recmesh model canary {model}")
    canary = found[-1]
    version = canary.arms[-1].models[model]
    state = next((one for one in states if one.version == version), None)
    report = None
    with contextlib.suppress(NotFoundError):
        report = report_of(home, canary.name)
    if canary.killed:
        last = next(e for e in reversed(stored.history) if e.name == canary.name)
        return Look(canary, state, report, last.what, last.by in (WHO, ERRORS))
    if report is not None and (broken := _broken(report)):
        why = f"{model}@{version}: {broken}"
        store.stop(canary.name, why, WHO)
        return Look(canary, state, report, why, rolled_back=True)
    return Look(canary, state, report)


def _line(found: Look) -> str:
    told = found.told()
    line = f"{datetime.now(UTC):%H:%M:%S}  {told['percent']:g}% of doctors, {told['doctors']} seen"
    if found.state is not None:
        calls, live = found.state.calls, found.state.live_calls
        line += f"; calls failed {calls.failures}/{calls.calls}, p95 {calls.p95_ms:.0f} ms"
        if live.calls:
            line += f" (live {live.failures}/{live.calls}, {live.p95_ms:.0f} ms)"
    elif not found.ended:
        line += "; its version does not run, so pages are made by the live one"
    for metric, verdict in told["guardrails"].items():
        line += f"; {metric} {verdict}"
    return line


def watch_command(
    model: Annotated[str, typer.Argument(help="Whose canary.")],
    for_s: Annotated[
        float, typer.Option("--for-s", min=0, help="Go on for so long; 0: look once, for cron.")
    ] = 0.0,
    every_s: Annotated[float, typer.Option(min=1, help="Between two looks.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a look.")] = False,
) -> None:
    """Says how a canary does, and rolls it back when clicks show harm.

    Guardrails are always valid: looking often does not make false alarms. Errors and latency are
    watched by the orchestrators all the time; what they stopped is said here and cleaned up. Exit
    status 3: it was rolled back.

    Examples:

        recmesh model watch cf

        recmesh model watch cf --for-s 86400 --every-s 60
    """
    home = Home.from_environment()
    with clear_errors("recmesh model watch"):
        check_known(model)
        mesh = required_mesh(home)
        end_s = time.monotonic() + for_s
        with joined_cluster(home, mesh.ray_address):
            while True:
                try:
                    states = read_trials(model, mesh_token(home))
                except UnavailableError:
                    states = []
                found = look(home, model, states)
                typer.echo(json.dumps(found.told()) if as_json else _line(found))
                if found.ended or time.monotonic() + every_s > end_s:
                    break
                time.sleep(every_s)
        if found.ended:
            remove_beside(home, mesh, model, found.canary.arms[-1].models[model])
        if found.rolled_back:
            give_up(home, model, by=WHO, did="canary rolled back", detail=found.ended)
    if found.ended and not as_json:
        what = "[red]rolled back[/red]" if found.rolled_back else "ended"
        Console().print(f"{what}: {escape(found.ended)}", highlight=False, soft_wrap=True)
    if found.rolled_back:
        raise typer.Exit(ROLLED_BACK)
