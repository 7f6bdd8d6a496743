"""A lock that processes of one machine, or of one shared folder, take turns at."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recmesh.storage.errors import ConfigurationError

RETRY_S = 0.1


@contextmanager
def file_lock(
    file: Path, *, wait_s: float, said: str, waiting: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Holds the lock while the context is open; the kernel lets go of it with the process.

    Args:
        file: made when it is not there, and left; it names the process that holds the lock.
        wait_s: how long its holder may take.
        said: what the holder does, for people.
        waiting: told once who is waited for.

    Raises:
        ConfigurationError: the holder takes longer, or the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+")
    except OSError as error:
        raise ConfigurationError(f"cannot write to {file.parent}: {error.strerror}") from error
    end_s = time.monotonic() + wait_s
    told = False
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                holder = f"process {file.read_text() or '(starting)'} {said}"
                if time.monotonic() >= end_s:
                    raise ConfigurationError(f"{holder}, for {wait_s:.0f} s now") from error
                if not told:
                    waiting(f"{holder}; waiting for it")
                    told = True
                time.sleep(RETRY_S)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
