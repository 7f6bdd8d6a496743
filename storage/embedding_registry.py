"""The registry of embedding versions: which there are, which is live, and which was before.

::

    vectors/versions/<collection>.json    a record each
    vectors/live.json                     {"collection": …, "previous": …, "since": …}
    vectors/history.jsonl                 every change of a state, appended

Files are replaced at once, and ``live.json`` alone decides what is live: whoever dies between
two of them leaves nothing undecided. One that is built anew from other data is another record
of the same version, with a collection of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError

EMBEDDER = "nlp"
"""The model whose vectors the index holds."""
DRAINED_S = 60.0
"""A retired version is spoken and kept current for so long: nobody asks for it any more then."""


class State(StrEnum):
    """How far an embedding version has come."""

    BUILDING = "building"
    BUILT = "built"
    VERIFIED = "verified"
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class EmbeddingVersion:
    """One embedding space and where it is indexed.

    A request takes this record once and uses it throughout, so that the vector a model
    made and the collection it is compared with cannot disagree.
    """

    version: str
    """Names the space: the encoder, the hash of its weights, and the dimensions if not all."""
    collection: str
    """Collection that holds the items' vectors; names the record."""
    dim: int
    count: int
    """Vectors in the collection when it was built."""
    catalog_seq: int = 0
    """The last write to the catalog that was in it then."""
    encoder: str = ""
    """Name or folder."""
    encoder_version: str = ""
    """The encoder's name and the hash of its weights."""
    artifact: str = ""
    """Version of the language model that speaks it."""
    dataset_version: str = ""
    """What that was trained on."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What verification found."""
    state: State = State.BUILT
    times: Mapping[str, str] = field(default_factory=dict)
    """ISO 8601 moments at which it came to each state last."""


@dataclass(frozen=True, slots=True)
class _Live:
    collection: str
    previous: str | None
    since: str


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _replace(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_suffix(f".{os.getpid()}")
    pending.write_text(json.dumps(content, indent=2, sort_keys=True))
    pending.replace(file)


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} is damaged ({error}); delete it and run: recmesh index")


class EmbeddingRegistry:
    """Records below one folder. Changed by one process at a time, read by any number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def records(self) -> list[EmbeddingVersion]:
        """All, oldest first.

        Raises:
            DataError: a file is damaged.
        """
        live = self._live()
        found = []
        for file in (self._folder / "versions").glob("*.json"):
            try:
                found.append(_in_view_of(_read(file), live))
            except FileNotFoundError:
                continue  # dropped meanwhile
        return sorted(found, key=lambda r: (min(r.times.values(), default=""), r.collection))

    def get(self, name: str) -> EmbeddingVersion:
        """The record of a collection, or the newest of a version.

        Raises:
            NotFoundError: there is none.
        """
        records = self.records()
        named = [r for r in records if name in (r.collection, r.version)]
        if not named:
            known = ", ".join(dict.fromkeys(r.version for r in records)) or "none"
            raise NotFoundError(f"no embedding version {name}; there is {known}")
        return named[-1]

    def live(self) -> EmbeddingVersion:
        """The one that is searched.

        Raises:
            NotFoundError: nothing is live yet.
            DataError: a file is damaged.
        """
        live = self._live()
        if live is None:
            raise NotFoundError(f"no embedding version in {self._folder}; run: recmesh index")
        return self._record(live.collection, live)

    def previous(self) -> EmbeddingVersion | None:
        """The one that was live before, kept for a rollback."""
        live = self._live()
        return self._record(live.previous, live) if live and live.previous else None

    def served(self) -> list[EmbeddingVersion]:
        """Those that encoders must speak and that follow the catalog.

        All that are built, but of the retired only the one before the live one and those that
        requests may still ask for.
        """
        live = self._live()
        now = datetime.now(UTC)

        def served(record: EmbeddingVersion) -> bool:
            if record.state is not State.RETIRED:
                return record.state is not State.BUILDING
            retired_s = (now - datetime.fromisoformat(record.times[State.RETIRED])).total_seconds()
            return retired_s < DRAINED_S or (
                live is not None and record.collection == live.previous
            )

        return [record for record in self.records() if served(record)]

    def save(self, record: EmbeddingVersion, state: State) -> EmbeddingVersion:
        """Writes a record that came to ``state``; what is live is for :meth:`switch` to say."""
        with self._changing():
            return self._save(record, state, _now())

    def switch(self, collection: str) -> bool:
        """Makes a verified version live; returns whether it was not.

        Raises:
            NotFoundError: there is none.
            ConfigurationError: it is not verified.
        """
        with self._changing():
            record, live = self._record(collection, self._live()), self._live()
            if live is not None and live.collection == collection:
                return False
            before = live is not None and live.previous == collection
            if record.state is not State.VERIFIED and not before:
                fix = "verify" if record.state is State.BUILT else "build"
                raise ConfigurationError(
                    f"{record.version} is {record.state}, and only what is verified goes live; "
                    f"run: recmesh embed {fix}"
                )
            self._publish(record, live, previous=live.collection if live else None)
            return True

    def rollback(self) -> EmbeddingVersion:
        """Makes the one before live again, and returns it.

        Done twice by mistake, it does not go forward to what was left: the second time fails.

        Raises:
            NotFoundError: there was none before.
        """
        with self._changing():
            live = self._live()
            if live is None or live.previous is None:
                raise NotFoundError(
                    "there is nothing to roll back to: no switch since the first one or a rollback"
                )
            record = self._record(live.previous, live)
            self._publish(record, live, previous=None)
            return self._record(record.collection, self._live())

    def remove(self, record: EmbeddingVersion) -> None:
        """Forgets a record."""
        with self._changing():
            self._file(record.collection).unlink(missing_ok=True)
            self._note(record, "dropped", _now())

    def _publish(
        self, record: EmbeddingVersion, live: _Live | None, *, previous: str | None
    ) -> None:
        now = _now()
        _replace(self._folder / "live.json", asdict(_Live(record.collection, previous, now)))
        # What follows is memory: who is live has been decided.
        self._save(record, State.LIVE, now)
        if live is not None and self._file(live.collection).is_file():
            self._save(self._record(live.collection, live), State.RETIRED, now)

    def _save(self, record: EmbeddingVersion, state: State, now: str) -> EmbeddingVersion:
        written = replace(record, state=state, times={**record.times, state: now})
        _replace(self._file(record.collection), asdict(written))
        self._note(written, state, now)
        return written

    def _note(self, record: EmbeddingVersion, state: str, now: str) -> None:
        said = {"time": now, "state": state, "version": record.version}
        line = json.dumps({**said, "collection": record.collection})
        with (self._folder / "history.jsonl").open("a") as history:
            history.write(f"{line}\n")
            history.flush()
            os.fsync(history.fileno())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "registry.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self, collection: str) -> Path:
        return self._folder / "versions" / f"{collection}.json"

    def _record(self, collection: str, live: _Live | None) -> EmbeddingVersion:
        try:
            return _in_view_of(_read(self._file(collection)), live)
        except FileNotFoundError as error:
            raise NotFoundError(f"no embedding version {collection}") from error

    def _live(self) -> _Live | None:
        file = self._folder / "live.json"
        try:
            return _Live(**json.loads(file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise _damaged(file, error) from error


def _read(file: Path) -> EmbeddingVersion:
    try:
        content = json.loads(file.read_text())
        return EmbeddingVersion(**{**content, "state": State(content["state"])})
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(file, error) from error


def _in_view_of(record: EmbeddingVersion, live: _Live | None) -> EmbeddingVersion:
    """The record as ``live.json`` has it, whatever its own file had time to say."""
    if live is None:
        return record
    if record.collection == live.collection:
        return replace(record, state=State.LIVE, times={**record.times, State.LIVE: live.since})
    if record.state is State.LIVE:
        times = {**record.times, State.RETIRED: live.since}
        return replace(record, state=State.RETIRED, times=times)
    return record
