"""What runs for one home folder: who started it and where its parts are.

The holder's lock says whether a mesh is there, because the kernel lets go of it with the
process, whatever that dies of. A process id alone would name a stranger once it is reused.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

LOCK_TRIES = 10
LOCK_RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class MeshRecord:
    """Written once everything is up, removed when it ends."""

    pid: int
    """Process that holds the mesh."""
    address: str
    """``host:port`` that callers use."""
    ray_address: str
    index_uri: str
    """Milvus; empty when nothing is indexed."""
    config: str
    """The configuration file it was started with."""
    failed: tuple[str, ...] = ()
    """Applications that did not run when it opened."""
    secure: bool = False
    """Callers say who they are, in TLS."""
    otlp_endpoint: str = ""
    """Where spans go; empty: nothing is traced."""
    own_cluster: bool = False
    """Ray was started for this mesh, on the loopback alone."""


def _file(home: Home) -> Path:
    return home.run / "mesh.json"


def _lock_file(home: Home) -> Path:
    return home.run / "mesh.lock"


def holder(home: Home) -> int | None:
    """The process that starts, runs or stops a mesh now; None when none does."""
    try:
        with _lock_file(home).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        written = _lock_file(home).read_text()
        return int(written) if written else None
    return None


def running_mesh(home: Home) -> MeshRecord | None:
    """The mesh that runs now; None when none does."""
    try:
        record = MeshRecord(**json.loads(_file(home).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return record if record.pid == holder(home) else None


@contextmanager
def only_mesh(home: Home) -> Iterator[None]:
    """Holds the home folder's lock: one mesh at a time.

    Raises:
        ConfigurationError: another process holds it, or the folder cannot be written to.
    """
    try:
        home.run.mkdir(parents=True, exist_ok=True)
        lock = _lock_file(home).open("a")
    except OSError as error:
        raise ConfigurationError(f"cannot write to {home.run}: {error.strerror}") from error
    with lock:
        if not _locked(lock):
            raise ConfigurationError(
                f"a mesh starts or runs in {home.root} already; stop it with: recmesh down"
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(lock: IO[str]) -> bool:
    # Whoever asks for the holder has the lock for an instant.
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_RETRY_S)
        else:
            return True
    return False


@contextmanager
def recorded(home: Home, record: MeshRecord) -> Iterator[None]:
    """Keeps the record while the mesh runs."""
    pending = _file(home).with_suffix(f".{os.getpid()}")
    pending.write_text(json.dumps(asdict(record), indent=2))
    pending.replace(_file(home))
    try:
        yield
    finally:
        _file(home).unlink(missing_ok=True)
