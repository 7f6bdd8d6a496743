"""``recmesh campaigns rehearse``: what campaigns would deliver, and cost, before they are sold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.served_policy import served_policy
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.written_data import current_dataset
from recmesh.models.registry import known_models
from recmesh.offline.campaigns.rehearsal_report import CampaignCourse, RehearsalReport
from recmesh.offline.campaigns.week import Settings, rehearse
from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def rehearse_command(
    world: Annotated[Path, typer.Argument(help="Folder of `recmesh world generate`.")],
    days: Annotated[int, typer.Option(min=1, help="Last days of the world to serve.")] = 7,
    pages_per_day: Annotated[
        float, typer.Option(min=1, help="Pages that all doctors open in a day.")
    ] = 3000,
    campaigns: Annotated[
        int, typer.Option(min=0, help="Campaigns whose reach has room for them.")
    ] = 10,
    too_large: Annotated[
        int, typer.Option(min=0, help="Campaigns that buy three times what their reach can give.")
    ] = 2,
    outage: Annotated[
        list[str] | None,
        typer.Option(help="A model that is down for two days of seven; may be repeated."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Models to serve with; all when none.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Version or file that serves. Default: the live policy.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Serves drawn campaigns to the world's last days, in its own time, with everything real.

    Models are trained on what lies before; pages, events, ledger and prices are the mesh's own.
    Relevance is judged by the world's truth, against the pages that the same doctors would have
    seen at the same moments without campaigns.

    Examples:

        recmesh campaigns rehearse .recmesh/world

        recmesh campaigns rehearse .recmesh/world --outage cf --outage behavioral --json
    """
    home = Home.from_environment()
    with clear_errors("recmesh campaigns rehearse"):
        served = tuple(models or known_models())
        for name in outage or ():
            if name not in served:
                raise ConfigurationError(
                    f"--outage {name}: not served here; there are {', '.join(served)}"
                )
        settings = Settings(
            days=days,
            feasible=campaigns,
            infeasible=too_large,
            pages_per_day=pages_per_day,
            outage=tuple(outage or ()),
            models=served,
            seed=seed,
            text_vectors=home.text_vectors,
        )
        with StageProgress(as_json) as shown:
            report = rehearse(
                current_dataset(home), world, served_policy(home, policy), settings, shown.stage
            )
    if as_json:
        typer.echo(report.as_json())
    else:
        _print(report, Console())


def _print(report: RehearsalReport, console: Console) -> None:
    down = f"; {' and '.join(report.outage)} down for two sevenths of it" if report.outage else ""
    console.print(
        f"{report.pages:,} pages in {report.days} days from {report.start[:10]}, policy "
        f"{report.policy}, seed {report.seed}{down}.",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("campaign")
    for name in ("bought", "confirmed", "delivered", "foreseen", "most/24 h", "price", "by day"):
        table.add_column(name, justify="right")
    for campaign in report.campaigns:
        table.add_row(
            f"{campaign.campaign_id}{'' if campaign.feasible else ' too large'}",
            f"{campaign.bought:,}",
            f"{campaign.confirmed:,}",
            _delivered(campaign),
            f"{campaign.foreseen:.0%}",
            f"{campaign.most_in_a_day} of {campaign.cap_per_day}",
            f"{campaign.highest_price:.2f}",
            " ".join(str(count) for count in campaign.by_day),
        )
    console.print(table)
    console.print(
        "Foreseen: on the campaign's first evening. Most/24 h: impressions of one doctor, of those "
        "that the cap allows. Price: the highest.",
        style="dim",
    )
    console.print(
        f"Sponsored: {report.sponsored_share:.1%} of slots, on {report.sponsored_pages:,} pages. "
        f"nDCG@10 lost: {_percent(report.organic_loss)} over all pages, "
        f"{_percent(report.organic_loss_of_sponsored)} over sponsored ones; the policy lets a "
        f"page lose {report.most_organic_loss:.0%}. Counts of the ledger that differ from the "
        f"event log: {report.ledger_faults}.",
        highlight=False,
    )


def _delivered(campaign: CampaignCourse) -> str:
    text = f"{campaign.delivered:.1%}"
    return f"[green]{text}[/green]" if 0.98 <= campaign.delivered <= 1.02 else f"[red]{text}[/red]"


def _percent(share: Interval) -> str:
    return f"{share.value:.2%} [{share.low:.2%}, {share.high:.2%}]"
