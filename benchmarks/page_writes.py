"""Pages a second that the one writer takes: records of pages, and slots that campaigns pay for.

    python -m benchmarks.page_writes                      SQLite in a temporary folder
    RECMESH_DATABASE__URI=postgresql://… python -m benchmarks.page_writes
    python -m benchmarks.page_writes --record-bytes 9000 --json

Runs the writer of a mesh alone in a process of its own, over a catalogue of 10,000 items with
campaigns that run. Callers ask like orchestrators, one page after another, as fast as they are
answered: to hold a page's slot and keep its record in one transaction; or to keep records of pages
without, which orchestrators gather for a quarter of a second. The more pages wait, the more share
a transaction, so a page costs less the more there are.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import grpc.aio
import psutil
from rich.table import Table

from benchmarks.catalog_writes import make_home
from benchmarks.running_campaigns import CAMPAIGNS, order_campaigns
from benchmarks.served_alone import served_alone
from benchmarks.wide_console import wide_console
from recmesh.deployments.catalog_app import DECISIONS, LEDGER
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.edge_services import CATALOG
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import (
    campaign_ledger_pb2,
    campaign_ledger_pb2_grpc,
    decision_log_pb2,
    decision_log_pb2_grpc,
)

ITEMS, USERS = 10_000, 100_000
AT_ONCE = (1, 8, 64)
TOGETHER = (1, 10)
"""Records that an orchestrator gathers, of four orchestrators."""
ORCHESTRATORS = 4
TIMEOUT_S = 30.0
BUDGET = 2_000_000

Ask = Callable[[int], Awaitable[int]]
"""Asks once, given a number of its own; returns how many pages that were."""


@dataclass(frozen=True)
class Rate:
    """What the writer did."""

    asked: str
    at_once: int
    pages_per_s: float
    writer_cpu_ms: float
    """A page."""
    p50_ms: float
    p99_ms: float


async def serve(root: Path) -> None:
    """The writer alone; prints its port."""
    home = Home(root)
    tokens = AttributionTokens(SigningKeys.load_or_make(home.attribution_keys))
    writer = CatalogWriter(home, os.environ.get("RECMESH_DATABASE__URI", ""), None, "", tokens)
    await writer.start()
    server = GrpcServer([LEDGER.full_name])
    add_service(server, CATALOG, writer.catalog_service, checked=True)
    add_service(server, LEDGER, writer.campaigns.ledger_service, checked=True)
    add_service(server, DECISIONS, writer.decisions.offered, checked=True)
    print(await server.start("127.0.0.1:0"), flush=True)
    await server.server.wait_for_termination()


class Orchestrators:
    """What orchestrators ask of the writer."""

    def __init__(self, channel: grpc.aio.Channel, record_bytes: int) -> None:
        self._ledger = campaign_ledger_pb2_grpc.CampaignLedgerServiceStub(channel)
        self._log = decision_log_pb2_grpc.DecisionLogServiceStub(channel)
        self._run = uuid.uuid4().hex
        # Compressed, so noise; a few, because making them takes longer than sending them.
        drawn = random.Random(0)
        self._records = [drawn.randbytes(record_bytes) for _ in range(16)]

    def _decision(self, number: int) -> decision_log_pb2.SealedDecision:
        return decision_log_pb2.SealedDecision(
            decision_id=uuid.uuid4().bytes,
            request_id=f"{self._run}-{number}",
            user_id=f"u{number % USERS}",
            surface="feed",
            made_at_unix_ms=int(1000 * time.time()),
            record=self._records[number % len(self._records)],
        )

    async def hold(self, number: int) -> int:
        """A page with a slot that a campaign pays for."""
        decision = self._decision(number)
        slot = campaign_ledger_pb2.WantedSlot(
            item_id=f"i{number % ITEMS}", campaign_id=f"bench-{number % CAMPAIGNS}"
        )
        answer = await self._ledger.HoldSlots(
            campaign_ledger_pb2.HoldSlotsRequest(
                request_id=decision.request_id,
                user_id=decision.user_id,
                slots=[slot],
                decision=decision,
            ),
            timeout=TIMEOUT_S,
        )
        if list(answer.statuses) != [campaign_ledger_pb2.HOLD_STATUS_HELD]:
            raise SystemExit(f"a slot was not held: {answer}")
        return 1

    def record(self, together: int) -> Ask:
        """Pages without any, so many in a message."""

        async def ask(number: int) -> int:
            some = [self._decision(together * number + n) for n in range(together)]
            request = decision_log_pb2.RecordDecisionsRequest(decisions=some)
            await self._log.RecordDecisions(request, timeout=TIMEOUT_S)
            return together

        return ask


async def measured(
    asked: str, ask: Ask, at_once: int, seconds: float, numbers: itertools.count[int], pid: int
) -> Rate:
    """``at_once`` callers, each asking again as soon as it is answered."""
    took: list[float] = []
    pages = 0
    end_s = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal pages
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            answered = await ask(next(numbers))
            pages += answered
            took.append(time.monotonic() - began_s)

    def cpu_s() -> float:
        return float(sum(psutil.Process(pid).cpu_times()[:2]))

    began_s, cpu_before_s = time.monotonic(), cpu_s()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    took.sort()
    return Rate(
        asked,
        at_once,
        pages / (time.monotonic() - began_s),
        1e3 * (cpu_s() - cpu_before_s) / pages,
        1e3 * statistics.median(took),
        1e3 * took[int(0.99 * (len(took) - 1))],
    )


async def measure(address: str, chosen: argparse.Namespace, pid: int) -> list[Rate]:
    """Held slots, then records alone."""
    numbers = itertools.count()
    rates = []
    async with grpc.aio.insecure_channel(address) as channel:
        asks = Orchestrators(channel, chosen.record_bytes)
        await measured("", asks.hold, 8, 1.0, numbers, pid)
        for at_once in AT_ONCE:
            name = "slot held, page recorded"
            rates.append(await measured(name, asks.hold, at_once, chosen.seconds, numbers, pid))
        for together in TOGETHER:
            name, ask = f"recorded, {together} a message", asks.record(together)
            rates.append(await measured(name, ask, ORCHESTRATORS, chosen.seconds, numbers, pid))
    return rates


def table(rates: Sequence[Rate]) -> Table:
    """A line a way of asking."""
    made = Table(title="what the writer takes", title_justify="left")
    for column in ("asked", "at once", "pages/s", "writer's CPU, ms a page", "p50", "p99, ms"):
        made.add_column(column, justify="left" if column == "asked" else "right")
    for rate in rates:
        made.add_row(
            rate.asked,
            str(rate.at_once),
            f"{rate.pages_per_s:,.0f}",
            f"{rate.writer_cpu_ms:.2f}",
            f"{rate.p50_ms:.1f}",
            f"{rate.p99_ms:.1f}",
        )
    return made


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record-bytes", type=int, default=30_000, help="of a page")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_home(Path(folder), ITEMS)
        with served_alone("benchmarks.page_writes", folder) as (said, pid):
            address = f"127.0.0.1:{int(said.readline())}"
            with grpc.insecure_channel(address) as channel:
                order_campaigns(channel, Dataset.open(Home(Path(folder)).dataset), budget=BUDGET)
            rates = asyncio.run(measure(address, chosen, pid))
    if chosen.json:
        print(json.dumps([asdict(rate) for rate in rates], indent=1))
    else:
        wide_console(140).print(table(rates))


if __name__ == "__main__":
    main()
