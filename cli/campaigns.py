"""``recmesh campaigns``: what was ordered, what was delivered, and what it will come to."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.campaigns_rehearse import rehearse_command
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import current_dataset, opened_database
from recmesh.deployments.campaign_delivery import CampaignStanding, expected_delivery, standings
from recmesh.deployments.campaign_traffic import CampaignTraffic
from recmesh.deployments.current_campaigns import CampaignTerms
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.forecast import SHORT_BELOW
from recmesh.storage.campaign_ledger import Discrepancy, SlotLedger
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import NotFoundError
from recmesh.storage.home import Home

campaigns_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="What sponsors ordered, what they got, and what a campaign would come to.",
)
campaigns_app.command("rehearse")(rehearse_command)


@campaigns_app.command("report")
def report_command(
    campaigns: Annotated[
        list[str] | None, typer.Argument(help="Campaigns to report; all when none.")
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Recount the ledger from the event log; differences end with 1.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Reports every campaign's delivery and forecast, from the database; no mesh need run.

    Examples:

        recmesh campaigns report

        recmesh campaigns report spring-2026 --verify --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh campaigns report"):
        dataset = current_dataset(home)
        book = CampaignBook.of(dataset.campaigns)
        for campaign_id in campaigns or ():
            if campaign_id not in book.row_of:
                raise NotFoundError(
                    f"no campaign {campaign_id!r}; there are {', '.join(book.campaign_ids) or '0'}"
                )
        terms = CampaignTerms.of(book, served_policy(home, ""))
        now_unix_s = time.time()
        database = opened_database(home)
        try:
            ledger = SlotLedger(database) if database is not None else None
            counts = ledger.counts() if ledger else {}
            saved = ledger.prices() if ledger else []
            traffic = CampaignTraffic.read(dataset, database, now_unix_s, terms.page_size)
            expected = expected_delivery(terms, counts, saved, traffic, now_unix_s)
            found = standings(terms, counts, saved, traffic, expected, now_unix_s)
            faults = ledger.audit() if ledger and verify else []
        finally:
            if database is not None:
                database.close()
    wanted = set(campaigns or book.campaign_ids)
    found = [one for one in found if book.campaign_ids[one.row] in wanted]
    absent = _absent_items(dataset, book, found)
    if as_json:
        rows = [_said(book, one, absent.get(one.row, [])) for one in found]
        differences = [_difference(fault) for fault in faults]
        said: dict[str, Any] = {"campaigns": rows}
        if verify:
            said["differences"] = differences
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        console = Console()
        _print(book, found, terms, console)
        for row, ids in absent.items():
            name, some = escape(book.campaign_ids[row]), ", ".join(ids[:5])
            console.print(
                f"[yellow]{name}: {len(ids)} items are not in the catalog: {escape(some)}[/yellow]"
            )
        if verify:
            _print_faults(faults, console)
    if faults:
        raise typer.Exit(1)


def _absent_items(
    dataset: Dataset, book: CampaignBook, found: Sequence[CampaignStanding]
) -> dict[int, list[str]]:
    """Ids that campaigns name and the catalog lacks, by row of the book."""
    known = set(dataset.items["item_id"].to_pylist())
    absent = {
        one.row: [item for item in book.item_ids[one.row] if item not in known] for one in found
    }
    return {row: ids for row, ids in absent.items() if ids}


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="minutes")


def _said(book: CampaignBook, one: CampaignStanding, absent: Sequence[str]) -> dict[str, Any]:
    return {
        "campaign_id": book.campaign_ids[one.row],
        "sponsor": book.sponsors[one.row],
        "starts_at": _time(int(book.starts_unix_s[one.row])),
        "ends_at": _time(int(book.ends_unix_s[one.row])),
        "state": one.state.value,
        "budget_impressions": int(book.budget[one.row]),
        "confirmed_impressions": one.counts.confirmed,
        "held_impressions": one.counts.held,
        "clicks": one.counts.clicks,
        "planned_impressions": one.planned,
        "price": one.price,
        "forecast": one.forecast,
        "items_not_in_catalog": list(absent),
    }


def _print(
    book: CampaignBook, found: Sequence[CampaignStanding], terms: CampaignTerms, console: Console
) -> None:
    if not found:
        console.print("no campaigns")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("campaign", "state", "ends"):
        table.add_column(name)
    for name in ("bought", "confirmed", "held", "pace", "price", "forecast"):
        table.add_column(name, justify="right")
    for one in found:
        style = "red" if one.forecast < SHORT_BELOW else "green"
        table.add_row(
            escape(book.campaign_ids[one.row]),
            one.state.value,
            _time(int(book.ends_unix_s[one.row]))[:10],
            f"{book.budget[one.row]:,}",
            f"{one.counts.confirmed:,}",
            f"{one.counts.held:,}",
            "" if one.pace is None else f"{one.pace:.0%}",
            f"{one.price:.2f}",
            f"[{style}]{one.forecast:.0%}[/{style}]",
        )
    console.print(table)
    console.print(
        f"Pace: confirmed of what even delivery would have confirmed by now. Price: in utility, at "
        f"most {terms.largest_price:g} by the policy. Forecast: share of what was bought that "
        "will be confirmed at the end. Sponsors, clicks and more: --json",
        style="dim",
        highlight=False,
    )


def _difference(fault: Discrepancy) -> dict[str, Any]:
    return {
        "campaign_id": fault.campaign_id,
        "what": fault.what,
        "ledger": fault.counted,
        "recounted": fault.recounted,
    }


def _print_faults(faults: Sequence[Discrepancy], console: Console) -> None:
    if not faults:
        console.print("the ledger equals the event log")
    for fault in faults:
        console.print(
            f"[red]{escape(fault.campaign_id)}: {fault.what}: the ledger says {fault.counted}, "
            f"recounted {fault.recounted}[/red]"
        )
