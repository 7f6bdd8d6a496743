"""``recmesh ope``: what a policy would have earned on recorded pages."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.page_clicks import page_clicks
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import recorded_database
from recmesh.offline.off_policy.decision_slates import DecisionSlates, usual_slots
from recmesh.offline.off_policy.evaluate import Estimate, slate_estimates
from recmesh.offline.off_policy.interval import interval
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.orchestrator.policy import Policy
from recmesh.storage.decision_log import DecisionLog, DecisionSpan
from recmesh.storage.errors import DataError
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from recmesh.storage.interchange import EVENT_TYPES

HOUR_MS = 3_600_000
LOOKED_AT = 200
"""Pages that are looked at for how many slots a page has."""
ASSUMES = {
    "slate IPS": "nothing",
    "RIPS": "a slot's event depends on the slots above",
    "IIPS": "it depends on its item and slot alone",
    "SNIIPS": "the same; self-normalised",
}


def _judged(
    log: DecisionLog, span: DecisionSpan, slates: DecisionSlates, limit: int, quiet: bool
) -> int:
    """Judges pages; returns how many could not be read."""
    unreadable = 0
    with progress_bars(quiet) as progress:
        task = progress.add_task("judging pages", total=min(log.count(span), limit))
        for found in log.read(span):
            if len(slates) >= limit:
                break
            progress.advance(task)
            try:
                slates.add(opened(found.record))
            except DataError:
                unreadable += 1
    return unreadable


def _usual_slots(log: DecisionLog, span: DecisionSpan) -> int:
    some = (
        opened(found.record) for _, found in zip(range(LOOKED_AT), log.read(span), strict=False)
    )
    slots = usual_slots(some)
    if not slots:
        raise DataError(
            f"no page of surface {span.surface} is recorded in that time; see recmesh replay"
        )
    return slots


def _said(estimate: Estimate) -> dict[str, Any]:
    bounds, support = estimate.interval, estimate.support
    return {
        "estimator": estimate.estimator,
        "value": bounds.value,
        "low": bounds.low,
        "high": bounds.high,
        "usable": estimate.usable,
        "effective_pages": support.effective_rows,
        "effective_rewards": support.effective_rewards,
        "refusals": list(support.refusals),
        "warnings": list(support.warnings),
    }


def _evaluate(
    policy: Policy,
    span: DecisionSpan,
    reward: str,
    slots: int,
    slates: int,
    limit: int,
    quiet: bool,
) -> dict[str, Any]:
    with recorded_database(Home.from_environment()) as database:
        log = DecisionLog(database)
        judged = DecisionSlates(
            policy,
            page_clicks(EventLog(database), reward),
            slots or _usual_slots(log, span),
            slates,
        )
        unreadable = _judged(log, span, judged, limit or 2**62, quiet)
    logged = judged.log()
    own = interval(logged.reward.sum(axis=1), logged.unit, 0.05)
    return {
        "policy": policy.version,
        "surface": span.surface,
        "reward": reward,
        "slots": judged.slots,
        "pages": len(judged),
        "doctors": int(np.unique(logged.unit).size),
        "left_out": {
            "later_pages": judged.left_out.later,
            "interleaved": judged.left_out.interleaved,
            "short": judged.left_out.short,
            "not_readable": unreadable,
        },
        "logged": {"value": own.value, "low": own.low, "high": own.high},
        "estimates": [_said(estimate) for estimate in slate_estimates(logged)],
    }


def _interval(found: dict[str, Any]) -> str:
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def _print(console: Console, found: dict[str, Any]) -> None:
    left_out = ", ".join(
        f"{n} {name.replace('_', ' ')}" for name, n in found["left_out"].items() if n
    )
    console.print(
        f"{found['pages']:,} pages of {found['doctors']:,} doctors on {found['surface']}, first "
        f"{found['slots']} slots, {found['reward']}s a page"
        + (f"; left out: {left_out}" if left_out else ""),
        highlight=False,
    )
    table = Table("", "95% interval", "effective pages", "effective rewards", "assumes", "")
    table.add_row("what was shown", _interval(found["logged"]), "", "", "", "")
    for one in found["estimates"]:
        table.add_row(
            f"{found['policy']}, {one['estimator']}",
            _interval(one) if one["usable"] else "[dim]refused[/dim]",
            f"{one['effective_pages']:,.0f}",
            f"{one['effective_rewards']:,.0f}",
            ASSUMES[one["estimator"]],
            "used" if one["usable"] else "[yellow]refused[/yellow]",
        )
    console.print(table)
    for one in found["estimates"]:
        for reason in one["refusals"]:
            console.print(f"  {one['estimator']} refused: {reason}", style="yellow")
        for warning in one["warnings"] if one["usable"] else ():
            console.print(f"  {one['estimator']}: {warning}", style="dim")
    if not any(one["usable"] for one in found["estimates"]):
        console.print(
            "  the pages cannot tell: let them explore (temperature in the surface's slate table), "
            "or judge a policy that is nearer",
            style="yellow",
        )


def ope_command(
    policy: Annotated[str, typer.Option(help="Version or .toml file of the policy to judge.")],
    surface: Annotated[str, typer.Option(help="Whose pages.")] = "feed",
    since_h: Annotated[float, typer.Option(help="Of the last so many hours.", min=0)] = 24.0,
    reward: Annotated[
        str, typer.Option(help="Event that counts, once an item of a page.")
    ] = "click",
    slots: Annotated[
        int, typer.Option(help="First slots that are judged; 0: as many as most pages have.", min=0)
    ] = 0,
    slates: Annotated[
        int, typer.Option(help="Slates drawn of both policies for a page, for IIPS.", min=1)
    ] = 16,
    limit: Annotated[int, typer.Option(help="Pages at most; 0: all.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Say what a policy would have earned on recorded pages, with its uncertainty.

    Reads the decision log and the events about its pages; needs no mesh. Pages tell of other
    policies only where chance filled their slots. Ends with status 1 when support is too thin
    for every estimator.

    Examples:

        recmesh ope --policy tuned-feed-0a1b2c3d4e5f

        recmesh ope --policy bolder.toml --surface swipe --since-h 168 --reward save --json
    """
    with clear_errors("recmesh ope"):
        if reward not in EVENT_TYPES:
            raise typer.BadParameter(f"--reward is one of {', '.join(EVENT_TYPES)}")
        judged = served_policy(Home.from_environment(), policy)
        if surface not in judged.surfaces:
            raise DataError(f"policy {judged.version} has no surface {surface}")
        since_ms = max(int(1000 * time.time() - since_h * HOUR_MS), 0)
        span = DecisionSpan(since_unix_ms=since_ms, surface=surface)
        found = _evaluate(judged, span, reward, slots, slates, limit, as_json)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print(Console(), found)
    if not any(one["usable"] for one in found["estimates"]):
        raise typer.Exit(1)
