"""Whether recorded pages are chosen again as they were, across kill -9, a restart and writes.

    python -m benchmarks.replayed_pages --pages 10000

Works on a copy of $RECMESH_HOME. A mesh in a process of its own answers pages of all surfaces,
with chance in filling slots and clicks in between; halfway it is killed with SIGKILL, the catalogue
is written to, and another mesh goes on. Then every page that is recorded is replayed. Says how
many pages with sponsored slots were answered and are not recorded: there must be none.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.running_campaigns import order_campaigns
from recmesh.cli.replay import tally
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.decision_log import DecisionLog, DecisionSpan
from recmesh.storage.home import Home
from recmesh.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

CALLERS = 6
SURFACES = ("feed", "feed", "search", "swipe", "network")
CLICKED_EVERY = 5
"""Pages, of which one is clicked."""
START_S = 120.0


class Answered:
    """What callers saw."""

    def __init__(self) -> None:
        self.request_ids: set[str] = set()
        self.sponsored: set[str] = set()
        self.failures = 0


async def started(root: Path, policy: Path) -> tuple[asyncio.subprocess.Process, str]:
    """A mesh in a process of its own, and where it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recmesh.cli.main", "serve"),
        *("--address", "127.0.0.1:0", "--policy", str(policy)),
        env={**os.environ, "RECMESH_HOME": str(root), "RECMESH_CAMPAIGNS__STEP_S": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        while line := (await process.stdout.readline()).decode():
            if "serving on" in line:
                return process, line.split("serving on ")[1].split(";")[0].strip()
    raise RuntimeError("the mesh did not start")


def requests(dataset: Dataset, seed: int) -> Iterator[recommendation_pb2.RecommendRequest]:
    """Pages of all surfaces, for ever."""
    rng = np.random.default_rng(seed)
    users = dataset.users["user_id"].to_pylist()
    titles = dataset.items["title"].to_pylist()
    for number in itertools.count():
        surface = SURFACES[number % len(SURFACES)]
        yield recommendation_pb2.RecommendRequest(
            request_id=str(uuid.uuid4()),
            surface=surface,
            user_id=users[rng.integers(len(users))],
            query=titles[rng.integers(len(titles))][:60] if surface == "search" else "",
        )


async def asked(
    address: str, pages: int, source: Iterator[recommendation_pb2.RecommendRequest], seen: Answered
) -> None:
    """Sends requests until that many pages were answered."""
    end = len(seen.request_ids) + pages

    async def caller() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            mesh = recommendation_pb2_grpc.RecommendationServiceStub(channel)
            feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)
            while len(seen.request_ids) < end:
                request = next(source)
                try:
                    page = await mesh.Recommend(request, timeout=5.0)
                except grpc.aio.AioRpcError:
                    seen.failures += 1
                    continue
                seen.request_ids.add(page.request_id)
                if any(slot.sponsorship.campaign_id for slot in page.recommendations):
                    seen.sponsored.add(page.request_id)
                if page.recommendations and len(seen.request_ids) % CLICKED_EVERY == 0:
                    await feedback.RecordEvents(clicked(request.user_id, page), timeout=10.0)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def clicked(
    user_id: str, page: recommendation_pb2.RecommendResponse
) -> feedback_pb2.RecordEventsRequest:
    """The first item is seen and clicked."""
    now = Timestamp(seconds=int(time.time()))
    events = [
        feedback_pb2.Event(
            event_id=f"{page.request_id}-{kind}",
            event_type=kind,
            user_id=user_id,
            item_id=page.recommendations[0].item_id,
            attribution_token=page.attribution_token,
            time=now,
        )
        for kind in (common_pb2.EVENT_TYPE_IMPRESSION, common_pb2.EVENT_TYPE_CLICK)
    ]
    return feedback_pb2.RecordEventsRequest(caller="benchmark", events=events)


async def written(address: str, dataset: Dataset) -> None:
    """Deletes an item in ten: what was recorded of them must not be asked of the catalogue."""
    async with grpc.aio.insecure_channel(address) as channel:
        ids = dataset.items["item_id"].to_pylist()[::10]
        for start in range(0, len(ids), 500):
            await catalog_pb2_grpc.CatalogServiceStub(channel).DeleteItems(
                catalog_pb2.DeleteItemsRequest(item_ids=ids[start : start + 500]), timeout=30.0
            )


@contextmanager
def copied(home: Home) -> Iterator[Path]:
    """The home without its database."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "home"
        shutil.copytree(home.root, root, ignore=shutil.ignore_patterns("recmesh.db*", ".*.lock"))
        yield root


def with_chance(folder: Path) -> Path:
    """The default policy, with chance on every surface."""
    text = DEFAULT_POLICY.read_text().replace("temperature = 0.0", "temperature = 0.02")
    file = folder / "chance.toml"
    file.write_text(text.replace('name = "default"', 'name = "chance"'))
    return file


async def main() -> None:
    """Prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pages", type=int, default=10_000)
    arguments = parser.parse_args()
    home = Home.from_environment()
    dataset = Dataset.open(home.dataset)
    with copied(home) as root:
        policy, seen, source = with_chance(root.parent), Answered(), requests(dataset, 0)
        process, address = await started(root, policy)
        with grpc.insecure_channel(address) as channel:
            order_campaigns(channel, dataset)
        await asked(address, arguments.pages // 2, source, seen)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        killed_after = set(seen.request_ids)
        process, address = await started(root, policy)
        await written(address, dataset)
        await asked(address, arguments.pages - arguments.pages // 2, source, seen)
        process.send_signal(signal.SIGTERM)
        await process.wait()
        database = Database.for_reading("", Home(root).database)
        assert database is not None
        log = DecisionLog(database)
        recorded = {found.request_id: len(found.record) for found in log.read(DecisionSpan())}
        replayed = await tally(log, DecisionSpan(), 2**62, quiet=False)
        database.close()
    missing = seen.request_ids - recorded.keys()
    print(f"pages answered                          {len(seen.request_ids):>8,}")
    print(f"  of these with sponsored slots         {len(seen.sponsored):>8,}")
    print(f"  failed                                {seen.failures:>8,}")
    print(f"not recorded: lost with the kill -9     {len(missing & killed_after):>8,}")
    print(f"  lost otherwise                        {len(missing - killed_after):>8,}")
    print(f"  with sponsored slots                  {len(missing & seen.sponsored):>8,}")
    print(f"kB of a record, mean                    {np.mean(list(recorded.values())) / 1e3:>8.1f}")
    print(f"replayed                                {replayed['pages']:>8,}")
    print(f"  identical                             {replayed['identical']:>8,}")
    print(f"  seconds                               {replayed['seconds']:>8.1f}")


if __name__ == "__main__":
    asyncio.run(main())
