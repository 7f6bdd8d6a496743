"""``recmesh model shadow``: a version beside the live one, asked the same and shown to nobody."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from recmesh.cli.actor import By, actor
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.named_version import NamedVersion, named_version
from recmesh.cli.page_clicks import page_clicks
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.trial_stage import move
from recmesh.cli.written_data import opened_database
from recmesh.deployments.beside import deploy_beside
from recmesh.deployments.mesh_token import mesh_token
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.deployments.trial_reader import Calls, TrialState, read_trials
from recmesh.models.model import Progress
from recmesh.models.registry import loader
from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.model_trials.click_quality import ClickQuality, click_quality
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.decision_log import DecisionLog, DecisionSpan
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from recmesh.storage.model_stage import Stage

POLL_S = 0.5
MOST_RECORDS = 5000
"""Recorded pages that are scored anew at most."""
VersionText = Annotated[
    str,
    typer.Argument(
        help="MODEL@VERSION, or as much of the version as is clear; MODEL: its newest not live."
    ),
]


def _mirrored(home: Home, model: str, version: str) -> TrialState | None:
    found = read_trials(model, mesh_token(home))
    return next((state for state in found if state.version == version), None)


def _watched(
    home: Home, named: NamedVersion, pages: int, wait_s: float, show: Progress
) -> TrialState | None:
    """Waits for traffic; Ctrl-C ends the waiting, not the shadow."""
    end_s = time.monotonic() + wait_s
    state = None
    try:
        while True:
            state = _mirrored(home, named.model, named.version)
            done = state.mirrored_pages if state else 0
            show(done, pages, f"{done} pages mirrored")
            if done >= pages or time.monotonic() > end_s:
                return state
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return state


def _newest_data(store: ArtifactStore, named: NamedVersion) -> datetime:
    newest = store.card(named.model, named.version).newest_data
    return datetime.fromisoformat(newest) if newest else datetime.min.replace(tzinfo=UTC)


def quality(home: Home, named: NamedVersion, live: NamedVersion, show: Progress) -> ClickQuality:
    """Both versions on recorded pages that neither has learned from."""
    store = ArtifactStore(home.artifacts)
    learned = max(_newest_data(store, one) for one in (named, live))
    since_ms = max(int(1000 * learned.timestamp()) + 1, 0) if learned.year > 1 else 0
    trial_model, live_model = (
        loader(one.model)(store.load(one.model, one.version)) for one in (named, live)
    )
    database = opened_database(home)
    if database is None:
        return click_quality([], {}, live_model, trial_model)
    try:
        log, span = DecisionLog(database), DecisionSpan(since_unix_ms=since_ms)
        total = min(log.count(span), MOST_RECORDS)
        every = max(-(-log.count(span) // MOST_RECORDS), 1)

        def pages() -> Any:
            for number, found in enumerate(log.read(span)):
                if number % every == 0:
                    show(number // every, total, "recorded pages")
                    yield opened(found.record)

        clicks = page_clicks(EventLog(database))
        return click_quality(pages(), clicks, live_model, trial_model)
    finally:
        database.close()


def _interval(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _calls(calls: Calls) -> list[str]:
    failed = f"{calls.failures} of {calls.calls}"
    return [failed, f"{calls.p50_ms:.1f}", f"{calls.p95_ms:.1f}"]


def _print(state: TrialState, judged: ClickQuality) -> None:
    console = Console()
    table = Table("", f"live {state.live_version}", f"trial {state.version}")
    rows = zip(
        ("calls failed", "p50 ms", "p95 ms"),
        _calls(state.live_calls),
        _calls(state.calls),
        strict=True,
    )
    for row in rows:
        table.add_row(*row)
    if judged.pages:
        table.add_row("click AUC of shown pages", _interval(judged.live), _interval(judged.trial))
    console.print(table)
    console.print(
        f"{state.mirrored_pages} pages mirrored, {state.left_out_pages} left out while it was busy",
        highlight=False,
    )
    if state.mirrored_pages:
        console.print(
            f"first ten the same {state.overlap_at_10:.0%}, rank correlation "
            f"{state.rank_correlation:.2f}, calibrated score {state.calibrated_shift:+.4f}",
            highlight=False,
        )
    if judged.pages:
        difference = judged.difference
        console.print(
            f"click AUC {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] "
            f"on {judged.pages} pages of {judged.doctors} doctors, later than what either learned",
            highlight=False,
        )
    else:
        console.print("no recorded page with a click is later than what both learned from")


def _told(state: TrialState, judged: ClickQuality) -> dict[str, Any]:
    def interval(found: Interval) -> dict[str, float] | None:
        if not judged.pages:
            return None
        return {"value": found.value, "low": found.low, "high": found.high}

    return state.as_json() | {
        "clicks": {
            "pages": judged.pages,
            "doctors": judged.doctors,
            "live_auc": interval(judged.live),
            "trial_auc": interval(judged.trial),
            "difference": interval(judged.difference),
        }
    }


def shadow_command(
    version: VersionText,
    pages: Annotated[int, typer.Option(min=0, help="Mirrored pages to wait for.")] = 200,
    wait_s: Annotated[float, typer.Option(min=0, help="Longest wait for them.")] = 120.0,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Runs a version beside the live one and mirrors traffic to it; no page is made with it.

    Waits for mirrored pages, then says how both versions agree, how long they take, and which of
    them tells better what was clicked on recorded pages. The version runs on: its owner starts a
    canary, or ends the trial. Ctrl-C ends the waiting only.

    Examples:

        recmesh train cf --not-live && recmesh model shadow cf

        recmesh model shadow cf@8199be6f --pages 1000 --wait-s 600 --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh model shadow"), StageProgress(as_json) as shown:
        store = ArtifactStore(home.artifacts)
        named = named_version(version, store)
        live = NamedVersion(named.model, store.live_version(named.model))
        if named == live:
            raise ConfigurationError(
                f"{named} is live; a shadow is another version, for example of: "
                f"recmesh train {named.model} --not-live"
            )
        mesh = required_mesh(home)
        shown.stage(f"starting {named}")
        deploy_beside(home, mesh, named.model, named.version)
        move(home, named, Stage.SHADOW, by=actor(by), did="shadow started")
        shown.done("shadow", f"{named} runs beside {live}")
        with joined_cluster(home, mesh.ray_address):
            state = _watched(home, named, pages, wait_s, shown.stage("traffic"))
        if state is None:
            raise NotFoundError(f"no orchestrator has met {named} yet; ask again in a moment")
        judged = quality(home, named, live, shown.stage("clicks"))
    if as_json:
        typer.echo(json.dumps(_told(state, judged)))
        return
    _print(state, judged)
    typer.echo(f"next: recmesh model canary {named} --percent 5, or recmesh model abort {named}")
