"""What asking a model over gRPC costs the one who asks: ``python -m benchmarks.model_client_cost``.

Two replicas of a model that costs nothing, in processes of their own, score 200 items a call for
eight callers. CPU is that of this process alone, user and system, over the calls.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time

from benchmarks.trivial_model import CANDIDATES, NAMES, TrivialModel
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.v1 import common_pb2, model_pb2

REPLICAS = 2
CALLERS = 8
CALLS = 8_000
REPEATS = 5
ITEMS = [f"item-{number}" for number in range(CANDIDATES)]


async def serve() -> None:
    """One replica, until standard input closes."""
    server = model_server(ModelMethods(TrivialModel(NAMES[0], ITEMS)))
    print(await server.start("127.0.0.1:0"), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def ask(addresses: list[str]) -> None:
    """Prints CPU and latency of each repetition."""
    client = GrpcModelClient("trivial", addresses)
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
    for _ in range(REPEATS):
        took_ms.clear()
        before_s = time.process_time()
        await asyncio.gather(*(caller(CALLS // CALLERS) for _ in range(CALLERS)))
        costs_us.append(1e6 * (time.process_time() - before_s) / CALLS)
    await client.close()
    cuts = statistics.quantiles(took_ms, n=100)
    said = {
        "calls": CALLS,
        "cpu_us_per_call": [round(cost) for cost in sorted(costs_us)],
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
    }
    print(json.dumps(said))


def main() -> None:
    """Starts the replicas and asks them."""
    if sys.argv[1:] == ["replica"]:
        asyncio.run(serve())
        return
    command = [sys.executable, "-m", "benchmarks.model_client_cost", "replica"]
    replicas = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(REPLICAS)
    ]
    try:
        ports = [replica.stdout.readline().strip() for replica in replicas if replica.stdout]
        asyncio.run(ask([f"127.0.0.1:{port}" for port in ports]))
    finally:
        for replica in replicas:
            replica.kill()
            replica.wait()


if __name__ == "__main__":
    main()
