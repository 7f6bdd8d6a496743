"""Events while the writer is killed and while its disk is full, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from tests.event_writer import GIVE_UP_S, Callers, Writer, batch, check_log
from tests.small_world import ingested_home

KILLS = 5
CALLERS = 6
BATCHES_A_LIFE = 40
ROOM_BYTES = 400_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = ingested_home(tmp_path)
    SigningKeys.load_or_make(home.attribution_keys)
    return home


@pytest.fixture
def writer(home: Home) -> Iterator[Writer]:
    made = Writer(home)
    made.start()
    yield made
    made.kill()


async def test_kill_9_while_callers_send_loses_and_doubles_nothing(
    home: Home, writer: Writer
) -> None:
    callers = Callers(home, writer.port, CALLERS)
    ending = asyncio.Event()

    sending = [asyncio.create_task(callers.send_on(which, ending)) for which in range(CALLERS)]

    async def until(answered: int) -> None:
        async with asyncio.timeout(GIVE_UP_S):
            while sum(map(len, callers.answered)) < answered:
                for task in sending:
                    assert not task.done() or task.exception() is None
                await asyncio.sleep(0.005)

    for life in range(KILLS):
        await until((life + 1) * BATCHES_A_LIFE)
        writer.kill()
        await asyncio.to_thread(writer.start)
    await until((KILLS + 1) * BATCHES_A_LIFE)
    ending.set()
    await asyncio.gather(*sending)
    await callers.close()
    writer.kill()
    assert callers.codes <= {grpc.StatusCode.UNAVAILABLE}
    check_log(home, callers)
    writer.start()


async def test_a_full_disk_is_unavailable_and_goes_on_when_there_is_room(
    home: Home, writer: Writer
) -> None:
    callers = Callers(home, writer.port, CALLERS)
    await callers.send(0, 0)
    unlimited = resource.prlimit(writer.process.pid, resource.RLIMIT_FSIZE)
    room = (ROOM_BYTES, unlimited[1])
    resource.prlimit(writer.process.pid, resource.RLIMIT_FSIZE, room)
    number = 0
    with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012 - whichever is the first
        while number < 2000:
            number += 1
            message = batch(1, number, callers.token(1, number))
            await callers.stub.RecordEvents(message, timeout=10)
            callers.answered[1].add(number)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "database failed" in (raised.value.details() or "")
    with contextlib.suppress(grpc.aio.AioRpcError):
        await callers.stub.RecordEvents(batch(1, 0, callers.token(1, 0)), timeout=10)
        callers.answered[1].add(0)
    resource.prlimit(writer.process.pid, resource.RLIMIT_FSIZE, unlimited)
    for again in (number, number + 1):
        await callers.send(1, again)
    assert callers.codes == set()
    await callers.close()
    writer.kill()
    check_log(home, callers)
    writer.start()
