"""Asks for sponsored slots, over gRPC or in this process: adapters of the ledger's port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from recmesh.deployments.campaign_methods import CampaignMethods
from recmesh.deployments.grpc_channel import CHANNEL_OPTIONS
from recmesh.deployments.mesh_token import from_inside
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignPacing, Hold, WantedSlot
from recmesh.storage.errors import RecMeshError, UnavailableError
from recmesh.storage.telemetry.spans import handed_on
from recmesh.v1 import campaign_ledger_pb2, campaign_ledger_pb2_grpc
from recmesh.v1.decision_log_pb2 import SealedDecision

_HOLDS = {campaign_ledger_pb2.HoldStatus.Value(f"HOLD_STATUS_{hold.name}"): hold for hold in Hold}


def _wish(
    request_id: str,
    user_id: str,
    slots: Sequence[WantedSlot],
    decision: SealedDecision | None,
) -> campaign_ledger_pb2.HoldSlotsRequest:
    return campaign_ledger_pb2.HoldSlotsRequest(
        request_id=request_id,
        user_id=user_id,
        slots=[
            campaign_ledger_pb2.WantedSlot(item_id=slot.item_id, campaign_id=slot.campaign_id)
            for slot in slots
        ],
        decision=decision,
    )


def _holds(answer: campaign_ledger_pb2.HoldSlotsResponse, wanted: int) -> list[Hold]:
    holds = [_HOLDS.get(status) for status in answer.statuses]
    known = [hold for hold in holds if hold is not None]
    if len(known) != wanted:
        raise UnavailableError("the ledger of sponsored slots answered with what is not a status")
    return known


def _pacing(answer: campaign_ledger_pb2.ReadPacingResponse) -> list[CampaignPacing]:
    return [
        CampaignPacing(c.campaign_id, c.price, c.remaining_impressions) for c in answer.campaigns
    ]


class GrpcCampaignLedger:
    """Asks the catalog's one replica where it was announced last."""

    def __init__(self, token: str = "") -> None:
        """``token`` of the mesh; empty: it has none."""
        self._metadata = from_inside(token)
        self._address = ""
        self._channel: grpc.aio.Channel | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Takes what discovery knows; an empty list changes nothing."""
        if not addresses or self._address in addresses:
            return
        self._drop()
        self._address = addresses[0]
        self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)

    async def hold(
        self,
        request_id: str,
        user_id: str,
        slots: Sequence[WantedSlot],
        *,
        timeout_s: float,
        decision: SealedDecision | None = None,
    ) -> list[Hold]:
        """See the port."""
        async with self._asking() as stub:
            answer = await stub.HoldSlots(
                _wish(request_id, user_id, slots, decision),
                timeout=timeout_s,
                metadata=(*self._metadata, *handed_on()),
            )
        return _holds(answer, len(slots))

    async def read_pacing(self, *, timeout_s: float) -> list[CampaignPacing]:
        """See the port."""
        async with self._asking() as stub:
            answer = await stub.ReadPacing(
                campaign_ledger_pb2.ReadPacingRequest(), timeout=timeout_s, metadata=self._metadata
            )
        return _pacing(answer)

    @asynccontextmanager
    async def _asking(
        self,
    ) -> AsyncIterator[campaign_ledger_pb2_grpc.CampaignLedgerServiceAsyncStub]:
        """Where to ask; a failed call leaves as the port's error."""
        if self._channel is None:
            raise UnavailableError("the ledger of sponsored slots has no address")
        try:
            yield campaign_ledger_pb2_grpc.CampaignLedgerServiceStub(self._channel)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"the ledger of sponsored slots answered {error.code().name}"
            ) from error

    def _drop(self) -> None:
        if self._channel is not None:
            task = asyncio.ensure_future(self._channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._channel = None

    async def close(self) -> None:
        """See the port."""
        self._drop()
        await asyncio.gather(*self._closing)


class InProcessCampaignLedger:
    """Asks a ledger that is kept in this process."""

    def __init__(self, methods: CampaignMethods) -> None:
        self._methods = methods

    async def hold(
        self,
        request_id: str,
        user_id: str,
        slots: Sequence[WantedSlot],
        *,
        timeout_s: float,
        decision: SealedDecision | None = None,
    ) -> list[Hold]:
        """See the port."""
        request = _wish(request_id, user_id, slots, decision)
        async with _in_time(timeout_s):
            answer = await self._methods.hold_slots(request, timeout_s)
        return _holds(answer, len(slots))

    async def read_pacing(self, *, timeout_s: float) -> list[CampaignPacing]:
        """See the port."""
        async with _in_time(timeout_s):
            answer = await self._methods.read_pacing(
                campaign_ledger_pb2.ReadPacingRequest(), timeout_s
            )
        return _pacing(answer)

    async def close(self) -> None:
        """See the port."""


@asynccontextmanager
async def _in_time(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise UnavailableError("the ledger of sponsored slots did not answer in time") from error
    except RecMeshError as error:
        raise UnavailableError(f"the ledger of sponsored slots failed: {error}") from error
