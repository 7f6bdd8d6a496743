"""How far a retraining has come, so that one that was killed goes on.

::

    retraining/lock         held by the one that runs, with its process id
    retraining/run.json     there while a run is unfinished
    retraining/data/        the data that it holds still
    retraining/reports/     one of every run
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recmesh.offline.retraining.comparison import Comparison
from recmesh.offline.retraining.gate import Check
from recmesh.storage.errors import ConfigurationError


@contextmanager
def only_retraining(folder: Path) -> Iterator[None]:
    """Holds the folder's lock: one retraining runs at a time.

    The kernel lets go of it with the process, whatever that dies of.

    Raises:
        ConfigurationError: another one runs, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ConfigurationError(
                f"another retraining runs in {folder.parent} (process {lock.read() or 'unknown'}); "
                "wait for it, or stop it: what it has trained is kept"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@dataclass(frozen=True, slots=True)
class Key:
    """What a run is of. Equal keys give equal candidates."""

    dataset_version: str
    until: str
    seed: int
    code: dict[str, str]
    """Of each model that is trained."""
    live: dict[str, str]
    """Live versions when it began; empty where nothing was."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate in the artifact store."""

    version: str
    comparison: Comparison


@dataclass(slots=True)
class RunRecord:
    """The unfinished run of a folder. Written after every step."""

    folder: Path
    key: Key
    trained: dict[str, Trained] = field(default_factory=dict)
    accepted: dict[str, list[Check]] | None = None
    """What goes live, with the checks that it passed; None: that is not decided yet."""
    collection: str = ""
    """Of the embedding version that was built for it."""

    @classmethod
    def unfinished(cls, folder: Path) -> RunRecord | None:
        """The run that was stopped half way; None: there is none that can be read."""
        try:
            said: dict[str, Any] = json.loads((folder / "run.json").read_text())
            trained = {
                name: Trained(one["version"], Comparison.from_json(one["comparison"]))
                for name, one in said["trained"].items()
            }
            accepted = None
            if said["accepted"] is not None:
                accepted = {n: [Check(**c) for c in cs] for n, cs in said["accepted"].items()}
            return cls(folder, Key(**said["key"]), trained, accepted, said["collection"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def save(self) -> None:
        """Writes it down, at once."""
        accepted = self.accepted
        content = {
            "key": asdict(self.key),
            "trained": {name: asdict(one) for name, one in self.trained.items()},
            "accepted": None
            if accepted is None
            else {name: [asdict(check) for check in checks] for name, checks in accepted.items()},
            "collection": self.collection,
        }
        file = self.folder / "run.json"
        pending = file.with_suffix(f".{os.getpid()}")
        pending.write_text(json.dumps(content, indent=2))
        pending.replace(file)

    def finish(self) -> None:
        """Forgets it: the next run begins anew."""
        (self.folder / "run.json").unlink(missing_ok=True)
