"""How soon a click changes the next page, on every replica of the orchestrator.

    RECMESH_ORCHESTRATOR__MIN_REPLICAS=2 recmesh up
    python -m benchmarks.online_state --clicks 200

Asks a mesh that runs. A doctor clicks the first item of their page, through the edge; from the
acknowledgement on, each replica is asked again and again until the item is not on the page any
more, since what was read is hidden. Prints seconds by replica.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import uuid

import grpc.aio
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.cli.written_data import current_dataset
from recmesh.storage.home import Home
from recmesh.v1 import (
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

AGAIN_S = 0.02
GIVE_UP_S = 30.0


def replicas() -> tuple[str, list[str]]:
    """Addresses of the edge and of the orchestrator's replicas."""
    done = subprocess.run(
        [sys.executable, "-m", "recmesh.cli.main", "status", "--json"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    status = json.loads(done.stdout or "{}")
    if not status.get("running"):
        raise SystemExit("no mesh runs here; start it with: recmesh up")
    (orchestrator,) = [a for a in status["applications"] if a["name"] == "orchestrator"]
    return status["address"], [replica["address"] for replica in orchestrator["replicas"]]


async def page(channel: grpc.aio.Channel, user_id: str) -> recommendation_pb2.RecommendResponse:
    """A doctor's feed."""
    request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user_id)
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    return await stub.Recommend(request, timeout=10)


async def click(channel: grpc.aio.Channel, user_id: str, item_id: str, token: str) -> None:
    """Returns when it is acknowledged."""
    event = feedback_pb2.Event(
        event_id=str(uuid.uuid4()),
        event_type=common_pb2.EVENT_TYPE_CLICK,
        user_id=user_id,
        item_id=item_id,
        attribution_token=token,
        time=Timestamp(seconds=int(time.time())),
    )
    await feedback_pb2_grpc.FeedbackServiceStub(channel).RecordEvents(
        feedback_pb2.RecordEventsRequest(caller="benchmark", events=[event]), timeout=10
    )


async def gone_after(channel: grpc.aio.Channel, user_id: str, item_id: str) -> float:
    """Seconds until a replica's page is without the item."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + GIVE_UP_S:
        asked_s = time.monotonic()
        found = await page(channel, user_id)
        if item_id not in [slot.item_id for slot in found.recommendations]:
            return asked_s - began_s
        await asyncio.sleep(AGAIN_S)
    return float("inf")


async def main(clicks: int) -> None:
    """Prints a line a replica."""
    edge, addresses = replicas()
    users = current_dataset(Home.from_environment()).users
    consenting = users["user_id"].filter(users["consents_personalisation"]).to_pylist()
    edge_channel = grpc.aio.insecure_channel(edge)
    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    seconds = []
    for user_id in (consenting * (1 + clicks // len(consenting)))[:clicks]:
        shown = await page(edge_channel, user_id)
        first = shown.recommendations[0].item_id
        await click(edge_channel, user_id, first, shown.attribution_token)
        seconds.append(
            await asyncio.gather(*(gone_after(channel, user_id, first) for channel in channels))
        )
    for channel in (edge_channel, *channels):
        await channel.close()
    print(f"{clicks} clicks, from the acknowledgement to a page that knows of it, seconds")
    for number, of in enumerate(np.array(seconds).T):
        p50, p99 = np.percentile(of, [50, 99])
        print(f"  replica {number}: p50 {p50:.2f}, p99 {p99:.2f}, largest {of.max():.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clicks", type=int, default=200)
    asyncio.run(main(parser.parse_args().clicks))
