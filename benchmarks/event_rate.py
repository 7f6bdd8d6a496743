"""Durable events a second, and how long an acknowledgement takes, against the bare disk.

    python -m benchmarks.event_rate                      64 callers, SQLite in a temporary folder
    python -m benchmarks.event_rate --batch 1

Runs the writer of a mesh alone in a process of its own, over a catalogue of
10,000 items, and measures in one run: a file that is appended to and synced (fdatasync) event by
event; callers that each send one batch after another, as fast as they are acknowledged and then at
a steady rate; and callers that each keep a stream filled. A third of the events are impressions
with a signed token. Prints JSON. As fast as they can, callers wait for each other: the time of an
acknowledgement is then the number of events under way by the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.catalog_writes import make_home
from benchmarks.served_alone import served_alone
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.edge_services import FEEDBACK
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import common_pb2, feedback_pb2, feedback_pb2_grpc

ITEMS = 10_000
STREAM_WINDOW = 8
"""Events of a stream that are not acknowledged yet."""


async def serve(root: Path) -> None:
    """The writer alone; prints its port."""
    home = Home(root)
    tokens = AttributionTokens(SigningKeys.load_or_make(home.attribution_keys))
    writer = CatalogWriter(home, os.environ.get("RECMESH_DATABASE__URI", ""), None, "", tokens)
    await writer.start()
    server = GrpcServer([FEEDBACK.full_name])
    methods = writer.feedback
    add_service(server, FEEDBACK, methods.offered, checked=True, streams=methods.streams)
    print(await server.start("127.0.0.1:0"), flush=True)
    await server.server.wait_for_termination()


def events(run: str, caller: int, tokens: AttributionTokens) -> Iterator[feedback_pb2.Event]:
    """Events without end: pages of ten, an impression, a click and a dwell of each item."""
    for number in itertools.count():
        user, item = f"u{number % 1000}", f"i{(37 * number + caller) % ITEMS}"
        token = tokens.issue(
            request_id=f"{run}-{caller}-{number}",
            surface="feed",
            policy_version="bench",
            issued_at_unix_s=int(time.time()),
            user_id=user,
            item_ids=[item, *(f"i{n}" for n in range(9))],
            campaigns={1: "bench"},
        )
        kinds = (
            (common_pb2.EVENT_TYPE_IMPRESSION, token),
            (common_pb2.EVENT_TYPE_CLICK, ""),
            (common_pb2.EVENT_TYPE_DWELL, ""),
        )
        for kind, shown_by in kinds:
            yield feedback_pb2.Event(
                event_id=f"{run}-{number}-{kind}",
                event_type=kind,
                user_id=user,
                item_id=item,
                surface="feed",
                attribution_token=shown_by,
                time=Timestamp(seconds=int(time.time())),
            )


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: median, 99th percentile and maximum."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(1e3 * statistics.median(ordered), 2),
        "p99_ms": round(1e3 * ordered[int(0.99 * (len(ordered) - 1))], 2),
        "max_ms": round(1e3 * ordered[-1], 2),
    }


def raw(folder: Path, seconds: float, tokens: AttributionTokens) -> dict[str, Any]:
    """Appends an event and syncs, over and over: what the disk can do one by one."""
    one = next(events("raw", 0, tokens)).SerializeToString()
    took = []
    file = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        os.write(file, one)
        os.fdatasync(file)
        took.append(time.monotonic() - started)
    os.close(file)
    return {"synced_events_per_s": round(len(took) / seconds), **spread(took)}


def check(outcomes: Any, tally: dict[str, int]) -> None:
    """Counts what became of events."""
    for outcome in outcomes:
        name = feedback_pb2.EventStatus.Name(outcome.status).removeprefix("EVENT_STATUS_").lower()
        tally[name] = tally.get(name, 0) + 1


async def send_batches(
    stub: Any,
    callers: int,
    batch: int,
    seconds: float,
    tokens: AttributionTokens,
    events_per_s: float = 0.0,
) -> dict[str, Any]:
    """Every caller sends a batch when the one before is acknowledged, and, at a rate, when due.

    At a rate, an acknowledgement is timed from when its batch was due.
    """
    took: list[float] = []
    tally: dict[str, int] = {}
    run = f"b{time.time_ns()}"
    end = time.monotonic() + seconds

    pause_s = callers * batch / events_per_s if events_per_s else 0.0

    async def caller(number: int) -> None:
        made = events(run, number, tokens)
        due = time.monotonic() + pause_s * number / callers
        while time.monotonic() < end:
            request = feedback_pb2.RecordEventsRequest(
                caller=f"bench{number}", events=itertools.islice(made, batch)
            )
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            started = due if pause_s else time.monotonic()
            due += pause_s
            answer = await stub.RecordEvents(request, timeout=30)
            took.append(time.monotonic() - started)
            check(answer.outcomes, tally)

    started = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    rate = sum(tally.values()) / (time.monotonic() - started)
    return {"batch": batch, "events_per_s": round(rate), **spread(took), "outcomes": tally}


async def send_streams(
    stub: Any, callers: int, seconds: float, tokens: AttributionTokens
) -> dict[str, Any]:
    """Every caller keeps its window filled."""
    took: list[float] = []
    tally: dict[str, int] = {}
    run = f"s{time.time_ns()}"
    end = time.monotonic() + seconds

    async def caller(number: int) -> None:
        call = stub.StreamEvents()
        sent: asyncio.Queue[float] = asyncio.Queue(STREAM_WINDOW)

        async def send() -> None:
            for event in events(run, number, tokens):
                if time.monotonic() > end:
                    break
                await sent.put(time.monotonic())
                request = feedback_pb2.StreamEventsRequest(caller=f"bench{number}", event=event)
                await call.write(request)
            await call.done_writing()

        sending = asyncio.create_task(send())
        async for response in call:
            took.append(time.monotonic() - await sent.get())
            check([response.outcome], tally)
        await sending

    started = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    rate = sum(tally.values()) / (time.monotonic() - started)
    return {
        "window": STREAM_WINDOW,
        "events_per_s": round(rate),
        **spread(took),
        "outcomes": tally,
    }


async def measure(
    address: str, chosen: argparse.Namespace, tokens: AttributionTokens, pid: int
) -> dict[str, Any]:
    """Batches, then streams. ``pid`` is the writer's, whose CPU is told an event."""

    def cpu_s() -> float:
        return float(sum(psutil.Process(pid).cpu_times()[:2]))

    async def metered(sending: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        before_s = cpu_s()
        outcome = await sending
        cpu_us = 1e6 * (cpu_s() - before_s) / sum(outcome["outcomes"].values())
        outcome["writer_cpu_us_per_event"] = round(cpu_us)
        return outcome

    callers, batch, seconds = chosen.callers, chosen.batch, chosen.seconds
    # The callers' own pauses are not the writer's.
    gc.collect()
    gc.freeze()
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
        await send_batches(stub, callers, batch, 1.0, tokens)
        fast = await metered(send_batches(stub, callers, batch, seconds, tokens))
        steady = await metered(send_batches(stub, callers, batch, seconds, tokens, chosen.steady))
        streams = await metered(send_streams(stub, callers, seconds, tokens))
    return {"callers": callers, "fast": fast, "steady": steady, "streams": streams}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--batch", type=int, default=10, help="events in a message")
    parser.add_argument("--steady", type=float, default=3000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_home(root, ITEMS)
        tokens = AttributionTokens(SigningKeys.load_or_make(Home(root).attribution_keys))
        with served_alone("benchmarks.event_rate", folder) as (said, pid):
            address = f"127.0.0.1:{int(said.readline())}"
            outcome = {"raw_before": raw(root, chosen.seconds / 4, tokens)}
            outcome |= asyncio.run(measure(address, chosen, tokens, pid))
            outcome["raw_after"] = raw(root, chosen.seconds / 4, tokens)
    outcome["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(outcome, indent=2))


if __name__ == "__main__":
    main()
