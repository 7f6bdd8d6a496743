"""Follows the address book and tells clients where their models are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from recmesh.deployments.address_book import HEARTBEAT_S, Announcement

log = structlog.get_logger(__name__)

Source = Callable[[], Awaitable[Sequence[Announcement]]]
"""Answers with all replicas known now; in a mesh, ``book.replicas.remote``."""

ANSWER_S = 2.0


class Follower(Protocol):
    """Takes addresses, as a gRPC model client does."""

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """The addresses known now; empty is no news."""


def addresses_by_application(replicas: Sequence[Announcement]) -> dict[str, list[str]]:
    """Addresses of the replicas that serve, by application."""
    found: dict[str, list[str]] = {}
    for replica in replicas:
        if replica.state == "serving":
            found.setdefault(replica.application, []).append(replica.address)
    return found


async def follow(
    source: Source, followers: Mapping[str, Follower], period_s: float = HEARTBEAT_S
) -> None:
    """Tells each application's follower its addresses, for ever; cancel to end.

    A source that fails or does not answer is asked again and changes nothing.
    """
    while True:
        try:
            async with asyncio.timeout(ANSWER_S):
                found = addresses_by_application(await source())
        except Exception as error:  # noqa: BLE001 - discovery may fail in any way and come back
            log.warning("discovery_silent", error=type(error).__name__)
        else:
            for application, follower in followers.items():
                follower.set_addresses(found.get(application, []))
        await asyncio.sleep(period_s)
