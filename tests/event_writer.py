"""A writer of events in a process of its own, to be killed, and callers who do not give up."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.campaign_ledger import SlotLedger
from recmesh.storage.database import Database
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import free_port
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import common_pb2, feedback_pb2, feedback_pb2_grpc

GIVE_UP_S = 60.0

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
    writer = CatalogWriter(home, sys.argv[3], None, "", tokens)
    await writer.start(5.0)
    server = GrpcServer([FEEDBACK.full_name])
    methods = writer.feedback
    add_service(server, FEEDBACK, methods.offered, checked=True, streams=methods.streams)
    await server.start(f"127.0.0.1:{sys.argv[2]}")
    print("serves", flush=True)
    await server.server.wait_for_termination()

asyncio.run(main())
"""


class Writer:
    """A writer in a process of its own, always on the same port."""

    def __init__(self, home: Home, database_uri: str = "") -> None:
        self._home = home
        self._database_uri = database_uri
        self.port = free_port()

    def start(self) -> None:
        self.spawn()
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "serves\n"

    def spawn(self) -> None:
        """Without waiting until it serves."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", WRITER),
                *(str(self._home.root), str(self.port), self._database_uri),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


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

    def __init__(self, home: Home, port: int, count: int, give_up_s: float = GIVE_UP_S) -> None:
        self._give_up_s = give_up_s
        self._tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
        self.stub = feedback_pb2_grpc.FeedbackServiceStub(self._channel)
        self.answered: list[set[int]] = [set() for _ in range(count)]
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
        end = time.monotonic() + self._give_up_s
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

    async def send_on(self, caller: int, ending: asyncio.Event) -> None:
        """Batch after batch."""
        number = 0
        while not ending.is_set():
            await self.send(caller, number)
            number += 1

    async def close(self) -> None:
        await self._channel.close()


def check_log(home: Home, callers: Callers, database_uri: str = "") -> int:
    """Every acknowledged batch is there whole and once, and each slot is counted once.

    The ledger of sponsored slots says what the events say. Returns the number of events.
    """
    database = Database.for_writing(database_uri, home.database, wait_s=5)
    assert SlotLedger(database).audit() == []
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
    return len(rows)
