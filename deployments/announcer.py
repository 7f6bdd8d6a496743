"""A replica's presence in the address book: announced while it serves, withdrawn at its end."""

from __future__ import annotations

import asyncio

import structlog

from recmesh.deployments.address_book import (
    ANSWER_S,
    FOLLOWING_S,
    HEARTBEAT_S,
    AddressBookClient,
    Announcement,
    Role,
)
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.storage.errors import UnavailableError

log = structlog.get_logger(__name__)

STOP_GRACE_S = 2.0
LEAVING_S = 2 * (ANSWER_S + STOP_GRACE_S)
"""Time that :meth:`Announcer.leave` may take at most."""


class Announcer:
    """Tells the address book of one running server. Belongs to one event loop."""

    def __init__(
        self,
        server: GrpcServer,
        *,
        role: Role,
        application: str,
        replica_id: str,
        address: str,
        version: str,
        build: str = "",
    ) -> None:
        """Starts announcing at once: the server must take calls already."""
        self._server = server
        self._book = AddressBookClient()
        self._role = role
        self._application = application
        self._replica_id = replica_id
        self._address = address
        self._version = version
        self._build = build
        self._heartbeat = asyncio.create_task(self._announce_for_ever(), name="heartbeat")

    def _announcement(self) -> Announcement:
        meter = self._server.meter
        return Announcement(
            role=self._role,
            application=self._application,
            replica_id=self._replica_id,
            address=self._address,
            version=self._version,
            build=self._build,
            inflight=meter.inflight,
            requests=meter.requests,
            p50_ms=meter.p50_ms,
        )

    async def _announce_for_ever(self) -> None:
        while True:
            try:
                await self._book.announce(self._announcement())
            except Exception as error:  # noqa: BLE001 - the book may fail in any way and come back
                log.warning("address_book_silent", error=type(error).__name__)
            await asyncio.sleep(HEARTBEAT_S)

    def check(self) -> None:
        """Raises UnavailableError when the replica no longer announces itself."""
        if self._heartbeat.done():
            raise UnavailableError("the replica no longer announces itself")

    async def leave(self) -> None:
        """Withdraws, serves until every caller can have heard of it, then ends the server."""
        self._heartbeat.cancel()
        try:
            await self._book.withdraw(self._application, self._replica_id)
        except Exception as error:  # noqa: BLE001 - silence withdraws it as well
            log.warning("not_withdrawn", error=type(error).__name__)
        await asyncio.sleep(2 * FOLLOWING_S)
        await self._server.stop(STOP_GRACE_S)
