"""What asking a model over gRPC costs the one who asks: ``python -m benchmarks.model_client_cost``.

Two replicas of a model that costs nothing, in processes of their own, score 200 items a call for
eight callers. CPU is that of this process alone, user and system, over the calls.

With ``--slow-ms N`` a third replica takes N milliseconds: latencies with second attempts, and
without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.trivial_model import CANDIDATES, NAMES, TrivialModel
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.hedging import HedgeBudget
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.models.model import Context, Float32
from recmesh.v1 import common_pb2, model_pb2

REPLICAS = 2
CALLERS = 8
CALLS = 8_000
REPEATS = 5
ITEMS = [f"item-{number}" for number in range(CANDIDATES)]


class SlowModel(TrivialModel):
    """Costs nothing, and takes its time."""

    takes_s = 0.0

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """Nothing is better than anything."""
        time.sleep(self.takes_s)
        return np.zeros(len(item_ids), np.float32)


async def serve(takes_s: float) -> None:
    """One replica, until standard input closes."""
    model = SlowModel(NAMES[0], ITEMS)
    model.takes_s = takes_s
    server = model_server(ModelMethods(model, threads=CALLERS))
    print(await server.start("127.0.0.1:0"), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


class NoBudget(HedgeBudget):
    """No second attempts."""

    def spend(self) -> bool:
        """Never."""
        return False


async def ask(addresses: list[str], repeats: int, *, hedged: bool = True) -> dict[str, object]:
    """CPU of each repetition, and latencies of the last one."""
    client = GrpcModelClient("trivial", addresses)
    if not hedged:
        client._budget = NoBudget()
    user = common_pb2.UserFeatures(user_id="u")
    request = model_pb2.ScoreRequest(user=user, item_ids=ITEMS)
    took_ms: list[float] = []

    async def caller(calls: int) -> None:
        for _ in range(calls):
            began_s = time.perf_counter()
            await client.score(request, timeout_s=5)
            took_ms.append(1e3 * (time.perf_counter() - began_s))

    await asyncio.gather(*(caller(100) for _ in range(CALLERS)))
    costs_us = []
    for _ in range(repeats):
        took_ms.clear()
        before_s = time.process_time()
        await asyncio.gather(*(caller(CALLS // CALLERS) for _ in range(CALLERS)))
        costs_us.append(1e6 * (time.process_time() - before_s) / CALLS)
    await client.close()
    cuts = statistics.quantiles(took_ms, n=1000)
    return {
        "calls": CALLS,
        "cpu_us_per_call": [round(cost) for cost in sorted(costs_us)],
        "p50_ms": round(cuts[499], 2),
        "p99_ms": round(cuts[989], 2),
        "p99.9_ms": round(cuts[998], 2),
    }


def main() -> None:
    """Starts the replicas and asks them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slow-ms", type=float, default=0.0)
    parser.add_argument("--replica", type=float, help="run one replica that takes so many seconds")
    arguments = parser.parse_args()
    if arguments.replica is not None:
        asyncio.run(serve(arguments.replica))
        return
    takes_s = [0.0] * REPLICAS + [arguments.slow_ms / 1e3] * (arguments.slow_ms > 0)
    command = [sys.executable, "-m", "benchmarks.model_client_cost", "--replica"]
    replicas = [
        subprocess.Popen(
            [*command, str(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for one in takes_s
    ]
    try:
        ports = [replica.stdout.readline().strip() for replica in replicas if replica.stdout]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        if arguments.slow_ms:
            for hedged in (False, True):
                said = asyncio.run(ask(addresses, 1, hedged=hedged))
                print(json.dumps({"second_attempts": hedged, **said}))
        else:
            print(json.dumps(asyncio.run(ask(addresses, REPEATS))))
    finally:
        for replica in replicas:
            replica.kill()
            replica.wait()


if __name__ == "__main__":
    main()
