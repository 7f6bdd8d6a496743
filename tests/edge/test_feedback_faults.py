"""Events while the writer is killed and while its disk is full, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.database import Database
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import free_port
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import common_pb2, feedback_pb2, feedback_pb2_grpc
from tests.small_world import ingested_home

KILLS = 5
CALLERS = 6
BATCHES_A_LIFE = 40
GIVE_UP_S = 60.0
ROOM_BYTES = 400_000

# The writer as a mesh runs it, without Ray.
WRITER = """
import asyncio, sys
from pathlib import Path
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.edge_services import FEEDBACK
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys

async def main():
    home = Home(Path(sys.argv[1]))
    tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
    writer = CatalogWriter(home, "", None, "", tokens)
    await writer.start(5.0)
    server = GrpcServer([FEEDBACK.full_name])
    methods = writer.feedback
    add_service(server, FEEDBACK, methods.offered, checked=True, streams=methods.streams)
    await server.start(f"127.0.0.1:{sys.argv[2]}")
    print("serves", flush=True)
    await server.server.wait_for_termination()

asyncio.run(main())
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = ingested_home(tmp_path)
    SigningKeys.load_or_make(home.attribution_keys)
    return home


class Writer:
    """A writer in a process of its own, always on the same port."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.port = free_port()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(self._home.root), str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "serves\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def writer(home: Home) -> Iterator[Writer]:
    made = Writer(home)
    made.start()
    yield made
    made.kill()


def batch(caller: int, number: int, token: str) -> feedback_pb2.RecordEventsRequest:
    """Two impressions of one sponsored slot and a long search."""
    now = Timestamp(seconds=int(time.time()))
    shown = {"event_type": common_pb2.EVENT_TYPE_IMPRESSION, "item_id": "i1"}
    events = [
        feedback_pb2.Event(
            event_id=f"{number}-{part}",
            user_id="reader",
            time=now,
            attribution_token=token,
            **shown,
        )
        for part in "ab"
    ]
    search = feedback_pb2.Event(
        event_id=f"{number}-c",
        event_type=common_pb2.EVENT_TYPE_SEARCH,
        user_id="reader",
        time=now,
        query="x" * 500,
    )
    return feedback_pb2.RecordEventsRequest(caller=f"app{caller}", events=[*events, search])


class Callers:
    """Services that each send batch after batch, the same one again until it is answered."""

    def __init__(self, home: Home, port: int) -> None:
        self._tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
        self.stub = feedback_pb2_grpc.FeedbackServiceStub(self._channel)
        self.answered: list[set[int]] = [set() for _ in range(CALLERS)]
        self.repeated = 0
        self.codes: set[grpc.StatusCode] = set()

    def token(self, caller: int, number: int) -> str:
        return self._tokens.issue(
            request_id=f"r{caller}-{number}",
            surface="feed",
            policy_version="p",
            issued_at_unix_s=int(time.time()),
            user_id="reader",
            item_ids=["i1"],
            campaigns={1: "c1"},
        )

    async def send(self, caller: int, number: int) -> None:
        """Until it is answered."""
        message = batch(caller, number, self.token(caller, number))
        end = time.monotonic() + GIVE_UP_S
        while True:
            try:
                answer = await self.stub.RecordEvents(message, timeout=5)
            except grpc.aio.AioRpcError as error:
                self.codes.add(error.code())
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)
                continue
            names = {feedback_pb2.EventStatus.Name(o.status) for o in answer.outcomes}
            assert names in ({"EVENT_STATUS_ACCEPTED"}, {"EVENT_STATUS_DUPLICATE"})
            self.repeated += names == {"EVENT_STATUS_DUPLICATE"}
            self.answered[caller].add(number)
            return

    async def close(self) -> None:
        await self._channel.close()


def check_log(home: Home, callers: Callers) -> None:
    """Every acknowledged batch is there whole and once, and each slot is counted once."""
    database = Database.for_writing("", home.database, wait_s=5)
    columns = ["seq", "caller", "event_id", "campaign_id", "counted"]
    rows = EventLog(database).read(columns=columns).events.to_pylist()
    database.close()
    keys = [(row["caller"], row["event_id"]) for row in rows]
    acknowledged = {
        (f"app{caller}", f"{number}-{part}")
        for caller, numbers in enumerate(callers.answered)
        for number in numbers
        for part in "abc"
    }
    assert len(keys) == len(set(keys))
    assert set(keys) == acknowledged
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    sponsored = [row for row in rows if row["campaign_id"]]
    counted = [row["event_id"][-1] for row in sponsored if row["counted"]]
    assert counted == ["a"] * (len(acknowledged) // 3)


async def test_kill_9_while_callers_send_loses_and_doubles_nothing(
    home: Home, writer: Writer
) -> None:
    callers = Callers(home, writer.port)
    ending = asyncio.Event()

    async def caller(which: int) -> None:
        number = 0
        while not ending.is_set():
            await callers.send(which, number)
            number += 1

    sending = [asyncio.create_task(caller(which)) for which in range(CALLERS)]

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
    callers = Callers(home, writer.port)
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
