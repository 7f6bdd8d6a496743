"""Follows the address book and tells whoever calls replicas where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from recmesh.deployments.address_book import ANSWER_S, FOLLOWING_S, Announcement, Role

log = structlog.get_logger(__name__)

Source = Callable[[], Awaitable[Sequence[Announcement]]]
"""Answers with all replicas known now."""

Take = Callable[[Mapping[str, Sequence[str]]], None]
"""Is given the addresses of every application. One that is not named, or named with none, is
no news: silence never removes an address."""


def addresses_by_application(replicas: Sequence[Announcement], role: Role) -> dict[str, list[str]]:
    """Addresses of the replicas of one role, by application."""
    found: dict[str, list[str]] = {}
    for replica in replicas:
        if replica.role == role:
            found.setdefault(replica.application, []).append(replica.address)
    return found


async def follow(source: Source, takes: Mapping[Role, Take], period_s: float = FOLLOWING_S) -> None:
    """Hands on the addresses of all applications by role, for ever; cancel to end.

    A source that fails or does not answer is asked again and changes nothing.
    """
    while True:
        try:
            async with asyncio.timeout(ANSWER_S):
                replicas = await source()
            for role, take in takes.items():
                take(addresses_by_application(replicas, role))
        except Exception as error:  # noqa: BLE001 - discovery may fail in any way and come back
            log.warning("discovery_silent", error=type(error).__name__)
        await asyncio.sleep(period_s)
