"""Closed-loop callers of one endpoint: ``python -m benchmarks.load_generator ADDRESS …``.

A process of its own, so that its CPU time is not counted as the server's. Requests are
serialised beforehand, to leave the cores to the server. Prints one JSON object: ``requests``,
``failures`` by code, ``degraded``, ``elapsed_s``, ``p50_ms``, ``p99_ms``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import grpc
import grpc.aio
import numpy as np

from recmesh.v1 import recommendation_pb2

METHOD = "/recmesh.v1.RecommendationService/Recommend"


async def main() -> None:
    """Calls for a while and prints what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--users", required=True, help="comma-separated ids")
    parser.add_argument("--application", default="", help="Serve's routing metadata")
    arguments = parser.parse_args()
    requests = [
        recommendation_pb2.RecommendRequest(surface="feed", user_id=user).SerializeToString()
        for user in arguments.users.split(",")
    ]
    metadata = [("application", arguments.application)] if arguments.application else None
    latencies_ms: list[float] = []
    failures: dict[str, int] = {}
    degraded = 0
    ends_s = time.monotonic() + arguments.seconds

    async def caller(number: int) -> None:
        nonlocal degraded
        async with grpc.aio.insecure_channel(
            arguments.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.unary_unary(METHOD)
            turn = number
            while (started_s := time.monotonic()) < ends_s:
                try:
                    page = await call(
                        requests[turn % len(requests)], timeout=5.0, metadata=metadata
                    )
                    degraded += recommendation_pb2.RecommendResponse.FromString(page).degraded
                except grpc.aio.AioRpcError as error:
                    failures[error.code().name] = failures.get(error.code().name, 0) + 1
                latencies_ms.append(1e3 * (time.monotonic() - started_s))
                turn += arguments.callers

    started_s = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(arguments.callers)))
    elapsed_s = time.monotonic() - started_s
    p50_ms, p99_ms = np.percentile(latencies_ms, [50, 99]).tolist()
    print(
        json.dumps(
            {
                "requests": len(latencies_ms),
                "failures": failures,
                "degraded": degraded,
                "elapsed_s": elapsed_s,
                "p50_ms": p50_ms,
                "p99_ms": p99_ms,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
