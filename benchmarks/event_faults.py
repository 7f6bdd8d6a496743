"""Whether acknowledged events are lost or counted twice while everything under them fails.

    python -m benchmarks.event_faults --kills 100 --full-disks 100 --restarts 20

The writer of events runs in a process of its own; callers send through gRPC, each the same batch
again until it is answered, two events of one sponsored slot among them.

kill -9      of the writer at a random moment, while it starts, too
full disk    the writer's files may not grow any more (RLIMIT_FSIZE), at a random size
PostgreSQL   stopped at once, as by pg_ctl stop -m immediate, and started again

After each the log is compared with what was acknowledged, and the ledger of sponsored slots with
the log. Minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc

from benchmarks.postgresql_server import PostgresqlServer
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from tests.event_writer import Callers, Writer, check_log
from tests.small_world import ingested_home

ROOM_BYTES = 300_000
FULL_FOR_S = 0.2
GIVE_UP_S = 600.0
"""A busy machine takes seconds to start a writer, which is killed again at once."""
CHANCE = random.Random(0)


@contextlib.asynccontextmanager
async def sending(
    home: Home, writer: Writer, count: int
) -> AsyncIterator[tuple[Callers, asyncio.Event]]:
    """Callers who send until the context ends, and are answered at last."""
    callers, ending = Callers(home, writer.port, count, GIVE_UP_S), asyncio.Event()
    tasks = [asyncio.create_task(callers.send_on(which, ending)) for which in range(count)]
    yield callers, ending
    ending.set()
    await asyncio.gather(*tasks)
    await callers.close()


async def killed(writer: Writer, callers: Callers, times: int) -> None:
    """Kills the writer again and again; every fourth time while it starts."""
    for number in range(times):
        if number % 4 == 3:
            await asyncio.to_thread(writer.spawn)
            await asyncio.sleep(CHANCE.uniform(0.0, 1.5))
        else:
            await asyncio.to_thread(writer.start)
            await asyncio.sleep(CHANCE.uniform(0.0, 0.5))
        await asyncio.to_thread(writer.kill)
        progress("kill -9", number + 1, times, callers)
    await asyncio.to_thread(writer.start)


async def filled(writer: Writer, callers: Callers, times: int) -> None:
    """Lets no file of the writer grow beyond some size, until callers have noticed."""
    await asyncio.to_thread(writer.start)
    unlimited = resource.prlimit(writer.process.pid, resource.RLIMIT_FSIZE)
    for number in range(times):
        # Less than SQLite's log grows to before it begins anew, so that it is soon noticed.
        room = CHANCE.randint(0, ROOM_BYTES)
        callers.codes.clear()
        resource.prlimit(writer.process.pid, resource.RLIMIT_FSIZE, (room, unlimited[1]))
        await until(lambda: bool(callers.codes))
        await asyncio.sleep(CHANCE.uniform(0, FULL_FOR_S))
        resource.prlimit(writer.process.pid, resource.RLIMIT_FSIZE, unlimited)
        await until_answered(callers)
        assert callers.codes == {grpc.StatusCode.UNAVAILABLE}, callers.codes
        progress("full disk", number + 1, times, callers)


async def restarted(server: PostgresqlServer, writer: Writer, callers: Callers, times: int) -> None:
    """Stops PostgreSQL without letting it finish anything, and starts it."""
    await asyncio.to_thread(writer.start)
    for number in range(times):
        await asyncio.sleep(CHANCE.uniform(0.0, 1.0))
        await asyncio.to_thread(server.stop, at_once=True)
        await asyncio.sleep(CHANCE.uniform(0.0, 0.5))
        await asyncio.to_thread(server.start)
        await until_answered(callers)
        progress("PostgreSQL restarted", number + 1, times, callers)


async def until_answered(callers: Callers) -> None:
    """Waits for one more batch."""
    answered = total(callers)
    await until(lambda: total(callers) > answered)


async def until(holds: Callable[[], bool]) -> None:
    """Looks again and again, for a minute at most."""
    async with asyncio.timeout(60.0):
        while not holds():  # noqa: ASYNC110 - several tasks and another process bring it about
            await asyncio.sleep(0.01)


def total(callers: Callers) -> int:
    """Batches that were answered."""
    return sum(map(len, callers.answered))


def progress(what: str, number: int, times: int, callers: Callers) -> None:
    """One line that is written over."""
    print(f"\r{what} {number}/{times}, {total(callers):,} batches", end="", flush=True)


async def tried(
    what: str,
    callers: int,
    uri: str,
    fail: Callable[[Home, Writer, Callers], Awaitable[None]],
) -> None:
    """One kind of failure, and what the log says after it."""
    with tempfile.TemporaryDirectory() as folder:
        home = ingested_home(Path(folder))
        SigningKeys.load_or_make(home.attribution_keys)
        writer = Writer(home, uri)
        began_s = time.monotonic()
        async with sending(home, writer, callers) as (made, _):
            await fail(home, writer, made)
        writer.kill()
        events = check_log(home, made, uri)
        print(
            f"\r{what:<28} {events:>9,} events acknowledged, {made.repeated:>5,} batches were "
            f"recorded and not told; 0 lost, 0 twice, ledger equal; "
            f"{time.monotonic() - began_s:.0f} s",
            flush=True,
        )


async def main() -> None:
    """Fails with what was lost or doubled; otherwise prints a line for each kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full-disks", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--callers", type=int, default=64)
    given = parser.parse_args()
    if given.kills:
        await tried(
            f"{given.kills} kill -9",
            given.callers,
            "",
            lambda _, writer, callers: killed(writer, callers, given.kills),
        )
    if given.full_disks:
        await tried(
            f"{given.full_disks} full disks",
            given.callers,
            "",
            lambda _, writer, callers: filled(writer, callers, given.full_disks),
        )
    if given.restarts:
        with tempfile.TemporaryDirectory() as folder:
            server = PostgresqlServer(Path(folder) / "data")
            uri = server.start()
            try:
                await tried(
                    f"{given.restarts} restarts of PostgreSQL",
                    given.callers,
                    uri,
                    lambda _, writer, callers: restarted(server, writer, callers, given.restarts),
                )
            finally:
                server.stop()


if __name__ == "__main__":
    asyncio.run(main())
