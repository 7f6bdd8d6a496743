import asyncio
from collections.abc import Sequence

from recmesh.deployments.address_book import AddressBook, Announcement
from recmesh.deployments.discovery import follow


def replica(replica_id: str, state: str = "serving") -> Announcement:
    return Announcement("model-cf", replica_id, f"127.0.0.1:{replica_id}", "v1", state)


def test_silence_is_forgotten_and_a_heartbeat_remembered() -> None:
    now = [0.0]
    book = AddressBook(clock=lambda: now[0])
    book.announce(replica("1"))
    book.announce(replica("2"))
    now[0] = 2.0
    book.announce(replica("2"))
    now[0] = 4.0
    assert [r.replica_id for r in book.replicas()] == ["2"]
    book.withdraw("model-cf", "2")
    book.withdraw("model-cf", "2")
    assert book.replicas() == []


class Listener:
    def __init__(self) -> None:
        self.heard: list[Sequence[str]] = []

    def set_addresses(self, addresses: Sequence[str]) -> None:
        self.heard.append(addresses)


async def test_a_failing_source_changes_nothing_and_is_asked_again() -> None:
    answers = iter([[replica("1"), replica("2", "draining")]])

    async def source() -> Sequence[Announcement]:
        try:
            return next(answers)
        except StopIteration:
            raise ConnectionError from None

    listener = Listener()
    task = asyncio.create_task(follow(source, {"model-cf": listener}, period_s=0.001))
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    assert listener.heard == [["127.0.0.1:1"]]
