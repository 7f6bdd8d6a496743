"""A model on Ray Serve: found through the address book, healed, and removed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import psutil
import pytest

from recmesh.deployments.address_book import AddressBookClient, Announcement, Role
from recmesh.deployments.applications import RUNNING, deploy, remove
from recmesh.deployments.discovery import follow
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.mesh_config import ModelTable
from recmesh.deployments.model_app import model_application
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, model_pb2
from tests.small_world import NOW_UNIX_S, ingested_home, train

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
    made = ingested_home(tmp_path_factory.mktemp("home") / "home")
    train(made, MODEL)
    return made


async def until(settled: Callable[[dict[str, Announcement]], bool]) -> list[str]:
    """Addresses in the book once it is as it should be."""
    async with asyncio.timeout(90):
        while True:
            known = {a.address: a for a in await AddressBookClient().replicas()}
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


async def test_replicas_are_found_survive_a_kill_and_leave(home: Home, cluster: None) -> None:
    table = ModelTable(min_replicas=2, max_replicas=2)
    target = model_application(MODEL, table, home, "127.0.0.1")
    (state,) = await asyncio.to_thread(deploy, [target], 60, lambda _: None)
    assert state.state == RUNNING, state.message
    live = ArtifactStore(home.artifacts).live_version(MODEL)
    killed, other = await until(
        lambda known: [(a.application, a.version) for a in known.values()] == [(MODEL, live)] * 2
    )

    client = GrpcModelClient(MODEL, [])
    following = asyncio.create_task(
        follow(
            AddressBookClient().replicas,
            {Role.MODEL: lambda found: client.set_addresses(found[MODEL])},
        )
    )
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
        await until(lambda known: killed not in known and other in known and len(known) == 2)

        assert await asyncio.to_thread(remove, MODEL)
        await until(lambda known: not known)
        with pytest.raises(UnavailableError):
            await client.score(REQUEST, timeout_s=5)
        assert not await asyncio.to_thread(remove, MODEL)
    finally:
        following.cancel()
        await client.close()


@pytest.mark.slow
async def test_load_adds_replicas(home: Home, cluster: None) -> None:
    table = ModelTable(min_replicas=1, max_replicas=2, target_inflight=0.001)
    target = model_application(MODEL, table, home, "127.0.0.1")
    await asyncio.to_thread(deploy, [target], 60, lambda _: None)
    (address,) = await until(lambda known: len(known) == 1)
    client = GrpcModelClient(MODEL, [address])

    async def call_for_ever() -> None:
        while True:
            await client.score(REQUEST, timeout_s=5)

    calling = asyncio.create_task(call_for_ever())
    try:
        await until(lambda known: len(known) == 2)
    finally:
        calling.cancel()
        await client.close()
        await asyncio.to_thread(remove, MODEL)


async def test_a_model_that_cannot_load_says_why(home: Home, cluster: None) -> None:
    version = ArtifactStore(home.artifacts).live_version(MODEL)
    card = home.artifacts / MODEL / version / "card.json"
    text = card.read_text()
    target = model_application(MODEL, ModelTable(), home, "127.0.0.1")
    card.write_text("{")
    try:
        (state,) = await asyncio.to_thread(deploy, [target], 60, lambda _: None)
    finally:
        card.write_text(text)
        await asyncio.to_thread(remove, MODEL)
    assert state.state == "DEPLOY_FAILED"
    assert "is damaged" in state.message


async def test_a_version_beside_the_live_one_is_announced_under_its_own_name(
    home: Home, cluster: None
) -> None:
    live = ArtifactStore(home.artifacts).live_version(MODEL)
    beside = f"{MODEL}@{live}"
    targets = [
        model_application(MODEL, ModelTable(), home, "127.0.0.1"),
        model_application(MODEL, ModelTable(), home, "127.0.0.1", version=live, beside=True),
    ]
    try:
        states = await asyncio.to_thread(deploy, targets, 60, lambda _: None)
        assert [(state.name, state.state) for state in states] == [
            (MODEL, RUNNING),
            (beside, RUNNING),
        ]
        await until(
            lambda known: (
                {(a.application, a.version) for a in known.values()}
                == {(MODEL, live), (beside, live)}
            )
        )
        assert await asyncio.to_thread(remove, MODEL, live)
        assert not await asyncio.to_thread(remove, MODEL, live)
        await until(lambda known: {a.application for a in known.values()} == {MODEL})
    finally:
        await asyncio.to_thread(remove, MODEL)
