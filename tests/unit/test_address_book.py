import asyncio
from collections.abc import Mapping, Sequence

from recmesh.deployments.address_book import AddressBook, Announcement, Role
from recmesh.deployments.discovery import follow


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
    task = asyncio.create_task(follow(source, Role.MODEL, heard.append, period_s=0.001))
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    assert heard == [{"cf": ["127.0.0.1:1"]}]
    assert asked > 1
