"""The edge with a real Envoy before real gRPC servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig, Limits
from recmesh.deployments.envoy_config import (
    CATALOG,
    CLUSTERS,
    bootstrap,
    endpoints,
    streaming_methods,
)
from recmesh.deployments.envoy_overload import REFRESH_S
from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES, GrpcServer
from recmesh.deployments.ip_address import split_address
from recmesh.deployments.mesh_host import orchestrator_answers
from recmesh.storage.errors import ConfigurationError, UnavailableError

UNARY = "/tests.Replica/Call"
WRITE = "/recmesh.v1.CatalogService/UpsertItems"
RECORD = "/recmesh.v1.FeedbackService/RecordEvents"
RECORD_STREAM = "/recmesh.v1.FeedbackService/StreamEvents"
STREAM = "/recmesh.v1.RecommendationService/Swipe"
LIMITS = Limits(call_s=5.0)

# A replica of its own process: prints its port, then answers every call with its pid.
REPLICA = """
import asyncio, os, sys
import grpc
from recmesh.deployments.grpc_server import GrpcServer

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        async def call(request, context):
            await asyncio.sleep(0.02)
            return str(os.getpid()).encode()
        if details.method == "/tests.Replica/Call":
            return grpc.unary_unary_rpc_method_handler(call)

async def main():
    server = GrpcServer([])
    server.server.add_generic_rpc_handlers([Handler()])
    print(await server.start("127.0.0.1:0"), flush=True)
    await server.server.wait_for_termination()

asyncio.run(main())
"""


class Replica(grpc.GenericRpcHandler):
    """Answers calls with its name; the request says how."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.calls = 0
        self.cancelled = asyncio.Event()
        self.grpc = GrpcServer([])
        self.grpc.server.add_generic_rpc_handlers([self])
        self.address = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method in (UNARY, WRITE, RECORD):
            return grpc.unary_unary_rpc_method_handler(self._call)
        if details.method in (STREAM, RECORD_STREAM):
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return None

    async def _call(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.calls += 1
        if request.startswith(b"leave"):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "leaving")
        if request == b"sleep":
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.name

    async def _stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield self.name + request


@contextlib.asynccontextmanager
async def replica(name: bytes) -> AsyncIterator[Replica]:
    made = Replica(name)
    made.address = f"127.0.0.1:{await made.grpc.start('127.0.0.1:0')}"
    try:
        yield made
    finally:
        await made.grpc.stop(0)


@contextlib.asynccontextmanager
async def edge(
    *addresses: str, limits: Limits = LIMITS
) -> AsyncIterator[tuple[EdgeSupervisor, Callable[..., grpc.aio.UnaryUnaryCall]]]:
    """A ready edge, and a call through it."""
    config = EdgeConfig(address="127.0.0.1:0", limits=limits)
    async with EdgeSupervisor(config, addresses) as running:
        await running.wait_ready(10)
        async with grpc.aio.insecure_channel(
            running.address, [("grpc.enable_retries", 0)]
        ) as channel:
            yield running, channel.unary_unary(UNARY)


@pytest.fixture
def processes() -> Iterator[list[tuple[subprocess.Popen[str], str]]]:
    started = [
        subprocess.Popen([sys.executable, "-c", REPLICA], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        yield [(p, f"127.0.0.1:{int(p.stdout.readline())}") for p in started if p.stdout]
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


async def test_calls_spread_over_the_replicas() -> None:
    async with replica(b"a") as a, replica(b"b") as b, edge(a.address, b.address) as (_, call):
        seen = Counter([await call(b"", timeout=5) for _ in range(60)])
    assert set(seen) == {b"a", b"b"}
    assert min(seen.values()) >= 10


async def test_streams_pass_message_by_message() -> None:
    async with (
        replica(b"a") as a,
        edge(a.address) as (running, _),
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        stream = channel.stream_stream(STREAM)(timeout=5)
        for number in (b"1", b"2"):
            await stream.write(number)
            assert await stream.read() == b"a" + number
        await stream.done_writing()
        assert await stream.code() == grpc.StatusCode.OK


async def test_what_callers_write_goes_to_the_writer_and_nothing_else_does() -> None:
    async with (
        replica(b"orchestrator") as orchestrator,
        replica(b"writer") as writer,
        edge(orchestrator.address) as (running, call),
        grpc.aio.insecure_channel(running.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        write = channel.unary_unary(WRITE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await write(b"", timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        running.update([writer.address], CATALOG)
        async with asyncio.timeout(10):
            while writer.calls == 0:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await write(b"", timeout=5)
        answers = {await write(b"", timeout=5) for _ in range(20)}
        assert answers == {b"writer"}
        record = channel.unary_unary(RECORD)
        assert {await record(b"", timeout=5) for _ in range(20)} == {b"writer"}
        for path, answer in ((RECORD_STREAM, b"writer1"), (STREAM, b"orchestrator1")):
            stream = channel.stream_stream(path)(timeout=5)
            await stream.write(b"1")
            assert await stream.read() == answer
            stream.cancel()
        assert {await call(b"", timeout=5) for _ in range(20)} == {b"orchestrator"}


async def test_an_update_moves_traffic_and_fails_no_call() -> None:
    async with replica(b"a") as a, replica(b"b") as b, edge(a.address) as (running, call):
        assert await call(b"", timeout=5) == b"a"
        running.update([b.address])
        seen: list[bytes] = []
        end = time.monotonic() + 5
        while seen[-50:] != [b"b"] * 50 and time.monotonic() < end:
            seen += await asyncio.gather(*(call(b"", timeout=5) for _ in range(10)))
        assert seen[-50:] == [b"b"] * 50
        running.update([])
        running.set_addresses(["no address"])
        await asyncio.sleep(0.3)
        assert await call(b"", timeout=5) == b"b"


async def test_a_killed_replica_loses_no_call(
    processes: list[tuple[subprocess.Popen[str], str]],
) -> None:
    (victim, first), (_, second) = processes
    async with edge(first, second) as (_, call):
        answers: list[bytes] = []
        numbers = iter(range(320))

        async def caller() -> None:
            for number in numbers:
                if number == 100:
                    # Half-way through the calls under way, so that some must run again.
                    asyncio.get_running_loop().call_later(0.01, victim.kill)
                answers.append(await call(b"", timeout=5))

        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(caller())
    assert len(answers) == 320
    assert str(victim.pid).encode() in answers[:100]
    assert str(victim.pid).encode() not in answers[-150:]


@pytest.mark.parametrize("size", [len(b"leave"), MAX_MESSAGE_BYTES])
async def test_an_unavailable_answer_is_tried_elsewhere(size: int) -> None:
    async with replica(b"a") as a, replica(b"b") as b, edge(a.address, b.address) as (_, call):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"leave".ljust(size), timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert a.calls > 0
    assert b.calls > 0


async def test_a_killed_envoy_is_back_within_a_second() -> None:
    async with replica(b"a") as a, replica(b"b") as b, edge(a.address) as (running, call):
        assert await call(b"", timeout=5) == b"a"
        running.update([b.address])
        first = running.pid
        assert first is not None
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        while running.pid in (first, None):
            assert time.monotonic() - killed < 1
            await asyncio.sleep(0.01)
        await running.wait_ready(5)
        assert time.monotonic() - killed < 1
        # Started from the last addresses, not from the first.
        assert await call(b"", timeout=5, wait_for_ready=True) == b"b"
        assert running.pid != first


async def test_a_retrying_client_does_not_notice_a_killed_envoy() -> None:
    policy = {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    options = [
        ("grpc.service_config", json.dumps(policy)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    async with (
        replica(b"a") as a,
        edge(a.address) as (running, _),
        grpc.aio.insecure_channel(running.address, options) as channel,
    ):
        call = channel.unary_unary(UNARY)
        for number in range(40):
            if number == 10 and running.pid is not None:
                os.kill(running.pid, signal.SIGKILL)
            assert await call(b"", timeout=5, wait_for_ready=True) == b"a"


async def test_messages_end_at_the_replicas_own_limit() -> None:
    async with replica(b"a") as a, edge(a.address) as (_, call):
        assert await call(bytes(MAX_MESSAGE_BYTES), timeout=10) == b"a"
        for size in (MAX_MESSAGE_BYTES + 1, 60_000_000):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(bytes(size), timeout=10)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert a.calls == 1
        assert await call(b"", timeout=5) == b"a"


async def test_too_many_calls_are_refused_as_overload() -> None:
    async with replica(b"a") as a, edge(a.address, limits=Limits(calls=2)) as (_, call):
        calls = [call(b"sleep", timeout=1) for _ in range(6)]
        codes = Counter([await each.code() for each in calls])
    assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] >= 3
    assert codes[grpc.StatusCode.DEADLINE_EXCEEDED] >= 1


async def test_an_edge_whose_memory_is_full_takes_no_calls_and_says_so() -> None:
    # Less than Envoy itself needs: full from its first look on.
    full = Limits(heap_bytes=1024**2)
    async with replica(b"a") as a, edge(a.address, limits=full) as (_, call):
        await asyncio.sleep(2 * REFRESH_S)
        reached = a.calls
        refused = call(b"", timeout=5)
        assert await refused.code() == grpc.StatusCode.UNAVAILABLE
        assert "overloaded" in await refused.details()
        assert a.calls == reached


async def test_connections_beyond_the_limit_are_closed_and_others_served() -> None:
    few = Limits(connections=2)
    async with replica(b"a") as a, edge(a.address, limits=few) as (running, call):
        assert await call(b"", timeout=5) == b"a"
        opened = [await asyncio.open_connection(*split_address(running.address)) for _ in range(3)]
        (kept, _), *beyond = opened
        for reader, _ in beyond:
            assert await asyncio.wait_for(reader.read(), 5) == b"", "closed"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(kept.read(), 0.2)
        assert await call(b"", timeout=5) == b"a"
        for _, writer in opened:
            writer.close()


async def test_a_deadline_reaches_the_replica_and_long_ones_are_cut() -> None:
    async with replica(b"a") as a, edge(a.address, limits=Limits(call_s=0.5)) as (_, call):
        started = time.monotonic()
        assert await call(b"sleep", timeout=30).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 2
        await asyncio.wait_for(a.cancelled.wait(), 2)


async def test_a_taken_port_is_named_with_the_fix() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port} .*; stop the process"):
            await EdgeSupervisor(EdgeConfig(address=f"127.0.0.1:{port}")).start()


async def test_stopping_ends_envoy_and_leaves_nothing() -> None:
    running = EdgeSupervisor(EdgeConfig(address="127.0.0.1:0"))
    with pytest.raises(UnavailableError, match="not started"):
        await running.wait_ready(0.05)
    await running.start()
    await running.wait_ready(10)
    pid, directory = running.pid, running._directory
    assert pid is not None
    assert directory is not None
    await running.stop()
    await running.stop()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_envoy_dies_with_its_starter() -> None:
    script = (
        "import asyncio, os\n"
        "from recmesh.deployments.edge import EdgeConfig, EdgeSupervisor\n"
        "async def main():\n"
        "    edge = EdgeSupervisor(EdgeConfig(address='127.0.0.1:0'))\n"
        "    await edge.start(); await edge.wait_ready(10)\n"
        "    print(edge.pid, edge._directory, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid, directory = done.stdout.split()
    with contextlib.suppress(FileNotFoundError):
        for _ in range(100):
            # Gone, or a zombie that nobody has collected yet.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
            time.sleep(0.02)
        else:
            pytest.fail("Envoy outlived its starter")
    for file in Path(directory).iterdir():
        file.unlink()
    Path(directory).rmdir()


def test_configuration_is_json_and_knows_the_contracts_streams(tmp_path: Path) -> None:
    assert STREAM in streaming_methods()
    files = dict.fromkeys(CLUSTERS, tmp_path / "e")
    made = json.loads(bootstrap(EdgeConfig(), "127.0.0.1", 1, files, tmp_path / "a", tmp_path))
    assert "access_log" not in json.dumps(made)
    assignment = json.loads(endpoints(["10.0.0.1:40000"]))["resources"][0]
    assert assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] == {
        "socket_address": {"address": "10.0.0.1", "port_value": 40000}
    }


@pytest.mark.parametrize("address", ["", "50051", "host:50051", "127.0.0.1:", "127.0.0.1:70000"])
def test_addresses_must_be_addresses(address: str) -> None:
    with pytest.raises(ConfigurationError):
        split_address(address)


def test_addresses_may_be_short_or_ipv6() -> None:
    assert split_address("localhost:1") == ("127.0.0.1", 1)
    assert split_address("[::1]:2") == ("::1", 2)


async def test_an_orchestrator_that_announces_itself_late_is_waited_for() -> None:
    async with replica(b"a") as late, edge() as (running, _):
        waiting = asyncio.create_task(orchestrator_answers(running.address))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        running.set_addresses([late.address])
        async with asyncio.timeout(10):
            await waiting
