"""How long a card takes after an action, against a page, and what idle sessions cost.

    python -m benchmarks.swipe_latency                   the data and models in $RECMESH_HOME
    python -m benchmarks.swipe_latency --callers 8

Runs the whole mesh in a process of its own (models co-located, its own event log) and measures in
one run: pages of 10 and of 1 on the surface ``swipe``, each of another user; sessions whose
actions are swipes and dismissals in turn, timed from the action to the next card; and sessions that
stay open and say nothing. Works on a copy of the home with an event log of its own. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil

from benchmarks.served_alone import served_alone
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, recommendation_pb2, recommendation_pb2_grpc

KINDS = (common_pb2.EVENT_TYPE_SWIPE, common_pb2.EVENT_TYPE_DISMISS)
IDLE_FOR_S = 5.0
SAID = "serving at "


async def serve(root: Path) -> None:
    """The whole mesh; says where it listens."""
    async with local_mesh(Home(root), DEFAULT_POLICY, "127.0.0.1:0") as mesh:
        print(f"{SAID}{mesh.address} {','.join(mesh.models)}", flush=True)
        await asyncio.Event().wait()


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: median, 99th percentile and maximum."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(1e3 * statistics.median(ordered), 2),
        "p99_ms": round(1e3 * ordered[int(0.99 * (len(ordered) - 1))], 2),
        "max_ms": round(1e3 * ordered[-1], 2),
    }


class Measured:
    """One run against a mesh that serves."""

    def __init__(self, channel: grpc.aio.Channel, user_ids: list[str], pid: int) -> None:
        self._stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        self._user_ids = user_ids
        self._server = psutil.Process(pid)

    def _cpu_s(self) -> float:
        return float(sum(self._server.cpu_times()[:2]))

    async def _by_all(
        self, callers: int, work: Callable[[str, list[float], Counter[str]], Awaitable[None]]
    ) -> dict[str, Any]:
        """Every caller works for a user of its own."""
        took: list[float] = []
        tally: Counter[str] = Counter()
        cpu_s = self._cpu_s()
        started = time.monotonic()
        users = self._user_ids[:callers]
        await asyncio.gather(*(work(user, took, tally) for user in users))
        elapsed = time.monotonic() - started
        return {
            **spread(took),
            "answers": len(took),
            "answers_per_s": round(len(took) / elapsed, 1),
            "server_cpu_ms_per_answer": round(1e3 * (self._cpu_s() - cpu_s) / len(took), 2),
            "degraded": tally["degraded"],
        }

    async def pages(self, callers: int, size: int, count: int) -> dict[str, Any]:
        """Pages of the surface, one after another, each of another user: none comes from caches."""
        users = itertools.cycle(self._user_ids)

        async def work(_: str, took: list[float], tally: Counter[str]) -> None:
            for _ in range(count):
                request = recommendation_pb2.RecommendRequest(
                    surface="swipe", user_id=next(users), page_size=size
                )
                started = time.monotonic()
                page = await self._stub.Recommend(request, timeout=10)
                took.append(time.monotonic() - started)
                tally["degraded"] += page.degraded

        return await self._by_all(callers, work)

    async def cards(self, callers: int, count: int) -> dict[str, Any]:
        """Sessions, timed from action to card."""
        repeated = 0

        async def work(user: str, took: list[float], tally: Counter[str]) -> None:
            nonlocal repeated
            call = self._stub.Swipe(timeout=600)
            start = recommendation_pb2.SwipeStart(user_id=user)
            await call.write(recommendation_pb2.SwipeRequest(start=start))
            card = await call.read()
            seen: set[str] = set()
            for number in range(count):
                assert isinstance(card, recommendation_pb2.SwipeResponse), "cards ran out"
                repeated += card.card.item_id in seen
                seen.add(card.card.item_id)
                action = recommendation_pb2.SwipeAction(
                    item_id=card.card.item_id, event_type=KINDS[number % 2]
                )
                started = time.monotonic()
                await call.write(recommendation_pb2.SwipeRequest(action=action))
                card = await call.read()
                took.append(time.monotonic() - started)
                tally["degraded"] += getattr(card, "degraded", False)
            call.cancel()

        return {**await self._by_all(callers, work), "repeated_cards": repeated}

    async def idle(self, sessions: int) -> dict[str, float]:
        """Open sessions that wait for an action."""
        before = self._server.memory_info().rss
        calls = []
        for number in range(sessions):
            call = self._stub.Swipe(timeout=600)
            start = recommendation_pb2.SwipeStart(user_id=f"idle{number}")
            await call.write(recommendation_pb2.SwipeRequest(start=start))
            await call.read()
            calls.append(call)
        after = self._server.memory_info().rss
        cpu_s = self._cpu_s()
        await asyncio.sleep(IDLE_FOR_S)
        busy = (self._cpu_s() - cpu_s) / IDLE_FOR_S
        for call in calls:
            call.cancel()
        await asyncio.sleep(1.0)
        cpu_s = self._cpu_s()
        await asyncio.sleep(IDLE_FOR_S)
        return {
            "sessions": sessions,
            "kib_per_session": round((after - before) / 1024 / sessions, 1),
            "server_cpu_percent": round(100 * busy, 1),
            "server_cpu_percent_without": round(100 * (self._cpu_s() - cpu_s) / IDLE_FOR_S, 1),
        }


async def measure(
    address: str, chosen: argparse.Namespace, user_ids: list[str], pid: int
) -> dict[str, Any]:
    """Pages and cards in one run."""
    async with grpc.aio.insecure_channel(address) as channel:
        run = Measured(channel, user_ids, pid)
        await run.pages(chosen.callers, 10, 20)
        await run.cards(chosen.callers, 5)
        return {
            "callers": chosen.callers,
            "pages_of_10": await run.pages(chosen.callers, 10, chosen.cards),
            "pages_of_1": await run.pages(chosen.callers, 1, chosen.cards),
            "cards": await run.cards(chosen.callers, chosen.cards),
            "idle": await run.idle(chosen.idle),
        }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--cards", type=int, default=100, help="of each caller")
    parser.add_argument("--idle", type=int, default=200, help="sessions that say nothing")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve))
        return
    home = Home.from_environment()
    users = Dataset.open(home.dataset).users["user_id"].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(home.dataset, root / "dataset")
        for part in (home.artifacts, home.vectors):
            if part.exists():
                shutil.copytree(part, root / part.name)
        with served_alone("benchmarks.swipe_latency", folder) as (lines, pid):
            said = next(line for line in lines if line.startswith(SAID))
            address, _, models = said.removeprefix(SAID).strip().partition(" ")
            outcome = {"users": len(users), "models": models.split(",")}
            outcome |= asyncio.run(measure(address, chosen, users, pid))
    outcome["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(outcome, indent=2))


if __name__ == "__main__":
    main()
