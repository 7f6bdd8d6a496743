"""A model on Ray Serve: found through the address book, healed, and removed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import ray
from ray import serve

from recmesh.deployments.address_book import Announcement, start_address_book
from recmesh.deployments.discovery import follow
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.model_app import deploy_model, remove_model
from recmesh.models.model import TrainOptions
from recmesh.models.registry import trainer
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, model_pb2
from tests.small_world import NOW_UNIX_S, dataset

pytestmark = [
    pytest.mark.mesh,
    # Ray's own, raised in the caller's frame.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]

MODEL = "behavioral"
REQUEST = model_pb2.ScoreRequest(
    user=common_pb2.UserFeatures(
        user_id="reader",
        history_item_ids=["i0", "i1"],
        history_event_types=[common_pb2.EVENT_TYPE_CLICK] * 2,
        history_times_unix_s=[NOW_UNIX_S - 60, NOW_UNIX_S - 30],
    ),
    surface="feed",
    now_unix_s=NOW_UNIX_S,
    item_ids=["i1", "i2", "i3"],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"))
    made.dataset.mkdir()
    files = {name: file.name for name, file in dataset(made.dataset).files.items()}
    (made.dataset / "dataset.json").write_text(json.dumps({"version": "small", "files": files}))
    trained = trainer(MODEL)(Dataset.open(made.dataset), TrainOptions(seed=1))
    ArtifactStore(made.artifacts).publish(trained.card, trained.tensors, trained.strings)
    return made


@pytest.fixture(scope="module")
def book() -> Iterator[Any]:
    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    try:
        yield start_address_book()
        serve.shutdown()
    finally:
        ray.shutdown()


async def until(book: Any, settled: Callable[[dict[str, Announcement]], bool]) -> list[str]:
    """Addresses in the book once it is as it should be."""
    async with asyncio.timeout(30):
        while True:
            known = {a.address: a for a in await book.replicas.remote()}
            if settled(known):
                return list(known)
            await asyncio.sleep(0.1)


def kill_listener(address: str) -> None:
    port = int(address.rpartition(":")[2])
    (pid,) = {
        c.pid
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid
    }
    os.kill(pid, signal.SIGKILL)


async def test_replicas_are_found_survive_a_kill_and_leave(home: Home, book: Any) -> None:
    await asyncio.to_thread(deploy_model, MODEL, home, replicas=2, num_cpus=0.5)
    live = ArtifactStore(home.artifacts).live_version(MODEL)
    killed, other = await until(
        book,
        lambda known: [(a.application, a.version) for a in known.values()] == [(MODEL, live)] * 2,
    )

    client = GrpcModelClient(MODEL, [])
    following = asyncio.create_task(follow(book.replicas.remote, {MODEL: client}))
    try:
        await asyncio.sleep(1.0)
        first = await client.score(REQUEST, timeout_s=5)
        assert first.version == live

        kill_listener(killed)
        for _ in range(100):
            again = await client.score(REQUEST, timeout_s=5)
            assert list(again.scores) == list(first.scores)
            await asyncio.sleep(0.01)
        # Serve heals: a new replica stands beside the one that was left alone.
        await until(book, lambda known: killed not in known and other in known and len(known) == 2)

        await asyncio.to_thread(remove_model, MODEL)
        await until(book, lambda known: not known)
        with pytest.raises(UnavailableError):
            await client.score(REQUEST, timeout_s=5)
    finally:
        following.cancel()
        await client.close()
