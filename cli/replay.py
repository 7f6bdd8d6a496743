"""``recmesh replay``: chooses recorded pages again, by their own policy or by another."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import zip_longest
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.progress_bars import progress_bars
from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import recorded_database
from recmesh.orchestrator.decisions.decision import Decision, latest_pages
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.orchestrator.decisions.replay import Replayed, differences, replay, unasked, under
from recmesh.orchestrator.policy import Policy
from recmesh.storage.decision_log import DecisionLog, DecisionSpan
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.home import Home

HOUR_MS = 3_600_000
TOLD = 20
"""Pages that differ, of which the ids are printed."""


def _slots(replayed: Replayed) -> list[dict[str, Any]]:
    page = replayed.page
    utility, offset = replayed.blended.utility, replayed.considered.request.offset
    return [
        {
            "rank": rank,
            "item_id": item_id,
            "score": float(utility[position]),
            "propensity": float(replayed.slate.propensity[offset + place]),
        }
        for place, (rank, item_id, position) in enumerate(
            zip(
                range(offset + 1, offset + 1 + len(page)),
                replayed.item_ids,
                page.tolist(),
                strict=True,
            )
        )
    ]


def _compared(page: Decision, policy: Policy | None) -> dict[str, Any]:
    """One page as recorded, and under the policy when there is one."""
    own = asyncio.run(replay(page))
    request = page.considered.request
    found: dict[str, Any] = {
        "request_id": request.asked_as,
        "surface": request.message.surface,
        "policy": page.answer.versions.policy,
        "drafted_for": request.drafted_for,
        "differences": differences(page.slate, own),
        "slots": _slots(own),
    }
    if policy is not None:
        other = under(page, policy)
        again = asyncio.run(replay(other))
        found["other"] = {
            "policy": policy.version,
            "not_asked": unasked(other),
            "slots": _slots(again),
        }
    return found


def _print_page(console: Console, found: dict[str, Any]) -> None:
    same = not found["differences"]
    verdict = "identical" if same else f"differs in {', '.join(found['differences'])}"
    arm = f", as arm {found['drafted_for']} would have it" if found["drafted_for"] else ""
    title = f"{found['surface']} {found['request_id']}{arm}: {verdict}"
    other = found.get("other")
    if other is None:
        table = Table("", "item", "score", "propensity", title=title)
        for slot in found["slots"]:
            table.add_row(
                str(slot["rank"]),
                slot["item_id"],
                f"{slot['score']:.4f}",
                f"{slot['propensity']:.3g}",
            )
        console.print(table)
        return
    was = {slot["item_id"]: slot["rank"] for slot in found["slots"]}
    table = Table("", found["policy"], "score", other["policy"], "score", "was", title=title)
    for mine, theirs in zip_longest(found["slots"], other["slots"]):
        rank = (mine or theirs)["rank"]
        left = (mine["item_id"], f"{mine['score']:.4f}") if mine else ("", "")
        right = ("", "", "")
        if theirs:
            before = str(was.get(theirs["item_id"], "new"))
            right = (theirs["item_id"], f"{theirs['score']:.4f}", before)
        table.add_row(str(rank), *left, *right)
    console.print(table)
    if other["not_asked"]:
        console.print(
            f"  no opinion is recorded of {', '.join(other['not_asked'])}, which this policy "
            "weighs; the others' weights grow",
            style="yellow",
        )


def _replay_one(request_id: str, policy: Policy | None, as_json: bool) -> bool:
    with recorded_database(Home.from_environment()) as database:
        records = DecisionLog(database).of_request(request_id)
    if not records:
        raise NotFoundError(
            f"no decision of request {request_id!r} is kept; the newest are recorded within a "
            "second, old ones are deleted"
        )
    pages = latest_pages([opened(found.record) for found in records])
    compared = [_compared(page, policy) for page in pages]
    if as_json:
        typer.echo(json.dumps(compared))
    else:
        console = Console()
        for found in compared:
            _print_page(console, found)
    return not any(found["differences"] for found in compared)


async def tally(log: DecisionLog, span: DecisionSpan, limit: int, quiet: bool) -> dict[str, Any]:
    """Replays recorded pages and counts those that come out the same."""
    counts = {"pages": 0, "identical": 0, "not_readable": 0}
    differing: list[dict[str, Any]] = []
    began_s = time.monotonic()
    with progress_bars(quiet) as progress:
        task = progress.add_task("replaying", total=min(log.count(span), limit))
        for found in log.read(span):
            if counts["pages"] >= limit:
                break
            counts["pages"] += 1
            progress.advance(task)
            try:
                page = opened(found.record)
            except DataError as error:
                counts["not_readable"] += 1
                differing.append({"request_id": found.request_id, "differences": [str(error)]})
                continue
            differs = differences(page.slate, await replay(page))
            counts["identical"] += not differs
            if differs:
                differing.append({"request_id": found.request_id, "differences": differs})
    took_s = time.monotonic() - began_s
    return {**counts, "lost": log.lost(span), "seconds": took_s, "differing": differing}


def _replay_all(since_h: float, surface: str, limit: int, as_json: bool) -> bool:
    since_ms = int(1000 * time.time() - since_h * HOUR_MS)
    span = DecisionSpan(since_unix_ms=max(since_ms, 0), surface=surface)
    with recorded_database(Home.from_environment()) as database:
        found = asyncio.run(tally(DecisionLog(database), span, limit or 2**62, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        console = Console()
        console.print(
            f"{found['identical']:,} of {found['pages']:,} pages identical, "
            f"{found['seconds']:.1f} s; {found['lost']:,} were not recorded",
            highlight=False,
        )
        for one in found["differing"][:TOLD]:
            console.print(f"  {one['request_id']}: {', '.join(one['differences'])}")
        if len(found["differing"]) > TOLD:
            console.print(f"  and {len(found['differing']) - TOLD:,} more")
    return not found["differing"]


def replay_command(
    request_id: Annotated[
        str, typer.Argument(help="The request; pages carry it. Default: all that are kept.")
    ] = "",
    policy: Annotated[
        str,
        typer.Option(help="Version or .toml file: what this policy would have shown, beside it."),
    ] = "",
    since_h: Annotated[
        float, typer.Option(help="Without a request: of the last so many hours.", min=0)
    ] = 24.0,
    surface: Annotated[str, typer.Option(help="Without a request: of this surface alone.")] = "",
    limit: Annotated[
        int, typer.Option(help="Without a request: this many at most; 0: all.", min=0)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Choose recorded pages again, and say whether they come out the same, bit for bit.

    Needs no mesh. Ends with status 1 when a page does not come out as it was recorded. Another
    policy chooses from the same candidates with the same scores.

    Examples:

        recmesh replay 5f0c6a2e-…

        recmesh replay 5f0c6a2e-… --policy tuned-feed-0a1b2c3d4e5f

        recmesh replay --since-h 24 --surface feed
    """
    with clear_errors("recmesh replay"):
        if request_id:
            other = served_policy(Home.from_environment(), policy) if policy else None
            same = _replay_one(request_id, other, as_json)
        elif policy:
            raise typer.BadParameter("--policy goes with one request; recmesh ope judges a policy")
        else:
            same = _replay_all(since_h, surface, limit, as_json)
    if not same:
        raise typer.Exit(1)
