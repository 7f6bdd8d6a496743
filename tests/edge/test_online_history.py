"""What a doctor does changes the next page, before and after a restart."""

from __future__ import annotations

import asyncio
import time
import uuid

from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, feedback_pb2
from tests.edge.test_feedback_service import ACCEPTED, Caller, calling, home  # noqa: F401

LOOKS = 50


async def shown(caller: Caller) -> list[str]:
    return [slot.item_id for slot in (await caller.page()).recommendations]


def click(item_id: str) -> feedback_pb2.Event:
    return feedback_pb2.Event(
        event_id=str(uuid.uuid4()),
        event_type=common_pb2.EVENT_TYPE_CLICK,
        user_id="reader",
        item_id=item_id,
        time=Timestamp(seconds=int(time.time())),
    )


async def test_what_was_clicked_is_not_shown_again_even_after_a_restart(
    home: Home,  # noqa: F811
) -> None:
    async with calling(home) as caller:
        first = (await shown(caller))[0]
        assert await caller.record(click(first)) == [ACCEPTED]
        for _ in range(LOOKS):
            if first not in await shown(caller):
                break
            await asyncio.sleep(0.1)
        assert first not in await shown(caller)
    async with calling(home) as caller:
        assert first not in await shown(caller), "known from the first page on"
