import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from recmesh.deployments.address_book import AddressBook, Announcement, Role
from recmesh.deployments.discovery import follow
from recmesh.deployments.orchestrator_server import OrchestratorServer
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home


def replica(replica_id: str, role: Role = Role.MODEL) -> Announcement:
    return Announcement(role, "cf", replica_id, f"127.0.0.1:{replica_id}", "v1")


def test_silence_is_forgotten_and_a_heartbeat_remembered() -> None:
    now = [0.0]
    book = AddressBook(clock=lambda: now[0])
    book.announce(replica("1"))
    book.announce(replica("2"))
    now[0] = 2.0
    book.announce(replica("2"))
    now[0] = 4.0
    assert [r.replica_id for r in book.replicas()] == ["2"]
    book.withdraw("cf", "2")
    book.withdraw("cf", "2")
    assert book.replicas() == []


async def test_a_failing_source_changes_nothing_and_is_asked_again() -> None:
    answers = iter([[replica("1"), replica("2", Role.ORCHESTRATOR)]])
    asked = 0

    async def source() -> Sequence[Announcement]:
        nonlocal asked
        asked += 1
        try:
            return next(answers)
        except StopIteration:
            raise ConnectionError from None

    heard: list[Mapping[str, Sequence[str]]] = []
    task = asyncio.create_task(follow(source, {Role.MODEL: heard.append}, period_s=0.001))
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    assert heard == [{"cf": ["127.0.0.1:1"]}]
    assert asked > 1


def test_an_address_is_whose_who_announced_it_last() -> None:
    book = AddressBook()
    book.announce(replica("1"))
    book.announce(Announcement(Role.MODEL, "nlp", "9", replica("1").address, "v1"))
    assert [r.application for r in book.replicas()] == ["nlp"]


async def test_a_model_is_not_asked_where_another_one_is_now(tmp_path: Path) -> None:
    server = OrchestratorServer(Home(tmp_path), {})
    server.take({"cf": ["127.0.0.1:1"]})
    server.take({"nlp": ["127.0.0.1:1"]})
    with pytest.raises(UnavailableError, match="cf has no address"):
        await server._panel.clients["cf"].describe(timeout_s=1)
    await server.close()
