"""What runs for one home folder: who started it and where its parts are."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


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


def _file(home: Home) -> Path:
    return home.run / "mesh.json"


def running_mesh(home: Home) -> MeshRecord | None:
    """The mesh that runs now; None when none does."""
    try:
        record = MeshRecord(**json.loads(_file(home).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return record if psutil.pid_exists(record.pid) else None


@contextmanager
def only_mesh(home: Home) -> Iterator[None]:
    """Holds the home folder's lock: one mesh at a time.

    Raises:
        ConfigurationError: another process holds it.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    with (home.run / "mesh.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"a mesh starts or runs in {home.root} already; stop it with: recmesh down"
            ) from error
        yield


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
