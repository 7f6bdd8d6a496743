"""Who serves which application, by the replicas' own word.

Replicas announce themselves twice a second and are forgotten after three seconds of
silence. Because they keep announcing, a restarted book is complete again after one
heartbeat; until then it answers with less, which is why clients keep what they know.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

NAME = "recmesh-address-book"
NAMESPACE = "recmesh"
HEARTBEAT_S = 0.5
SILENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a replica says of itself."""

    application: str
    replica_id: str
    address: str
    """``host:port`` of its gRPC server."""
    version: str
    state: str = "serving"
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
        self._heard[key] = (self._clock(), announcement)

    def withdraw(self, application: str, replica_id: str) -> None:
        """A replica leaves. Unknown ones are no error: silence may have been first."""
        self._heard.pop((application, replica_id), None)

    def replicas(self) -> list[Announcement]:
        """Everyone heard of within ``SILENCE_S`` seconds, by application and replica id."""
        oldest = self._clock() - SILENCE_S
        self._heard = {key: heard for key, heard in self._heard.items() if heard[0] >= oldest}
        return [self._heard[key][1] for key in sorted(self._heard)]


def start_address_book() -> Any:
    """Starts the cluster's one address book, or finds it; returns its Ray actor handle.

    It lives as long as the caller's process keeps the handle: call this where the mesh is
    run from, not in a replica, whose end would take the book along.
    """
    return (
        ray.remote(AddressBook)
        .options(name=NAME, namespace=NAMESPACE, get_if_exists=True, max_restarts=-1, num_cpus=0)
        .remote()
    )


def find_address_book() -> Any:
    """The handle of the running address book.

    Raises:
        ValueError: no address book has been started on this cluster.
    """
    return ray.get_actor(NAME, namespace=NAMESPACE)
