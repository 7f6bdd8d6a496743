"""Who serves which application, by the replicas' own word.

Replicas announce themselves every second and are forgotten after three seconds of
silence. Because they keep announcing, a restarted book is complete again after one
heartbeat; until then it answers with less, which is why clients keep what they know.
Whoever needs the book first starts it, and it outlives them: no part must be up before
another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ray

NAME = "recmesh-address-book"
NAMESPACE = "recmesh"
HEARTBEAT_S = 1.0
SILENCE_S = 3.0
FOLLOWING_S = 0.5
"""How often those who call replicas ask where they are."""
ANSWER_S = 2.0


class Role(StrEnum):
    """What kind of service a replica offers."""

    MODEL = "model"
    TRIAL = "trial"
    """A model's version that is started to see whether it comes up; nobody asks it for pages."""
    ORCHESTRATOR = "orchestrator"
    CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a replica says of itself."""

    role: Role
    application: str
    """The model's name; ``orchestrator``; ``catalog``."""
    replica_id: str
    address: str
    """``host:port`` of its gRPC server."""
    version: str
    build: str = ""
    """Names code, version and needs of the replica: all of what a rollout may change."""
    inflight: int = 0
    requests: int = 0
    """Calls answered since its start."""
    p50_ms: float = 0.0


class AddressBook:
    """The latest announcement of every replica. One thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[tuple[str, str], tuple[float, Announcement]] = {}

    def announce(self, announcement: Announcement) -> None:
        """A replica is there; call again every ``HEARTBEAT_S`` seconds."""
        key = (announcement.application, announcement.replica_id)
        # A port is given anew soon after its replica died: it is who announced it last.
        self._heard = {
            known: heard
            for known, heard in self._heard.items()
            if known == key or heard[1].address != announcement.address
        }
        self._heard[key] = (self._clock(), announcement)

    def withdraw(self, application: str, replica_id: str) -> None:
        """A replica leaves. Unknown ones are no error: silence may have been first."""
        self._heard.pop((application, replica_id), None)

    def replicas(self) -> list[Announcement]:
        """Everyone heard of within ``SILENCE_S`` seconds, by application and replica id."""
        oldest = self._clock() - SILENCE_S
        self._heard = {key: heard for key, heard in self._heard.items() if heard[0] >= oldest}
        return [self._heard[key][1] for key in sorted(self._heard)]


def address_book() -> Any:
    """The Ray actor handle of the cluster's one address book, started if there is none.

    Blocks; call it in a thread from an event loop.
    """
    return (
        ray.remote(AddressBook)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
        )
        .remote()
    )


class AddressBookClient:
    """Calls the cluster's address book from one event loop.

    Looks the book up once, and again after a failure: it may have been started anew.
    """

    def __init__(self) -> None:
        self._book: Any = None

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._book is None:
                    self._book = await asyncio.to_thread(address_book)
                return await getattr(self._book, method).remote(*arguments)
        except BaseException:
            self._book = None
            raise

    async def announce(self, announcement: Announcement) -> None:
        """See :meth:`AddressBook.announce`. Raises what Ray raises, or TimeoutError."""
        await self._call("announce", announcement)

    async def withdraw(self, application: str, replica_id: str) -> None:
        """See :meth:`AddressBook.withdraw`. Raises what Ray raises, or TimeoutError."""
        await self._call("withdraw", application, replica_id)

    async def replicas(self) -> list[Announcement]:
        """See :meth:`AddressBook.replicas`. Raises what Ray raises, or TimeoutError."""
        found: list[Announcement] = await self._call("replicas")
        return found
