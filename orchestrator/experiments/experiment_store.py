"""The experiments on disk: the book that is served, plans that were fixed, and who did what.

::

    experiments/book.json    layers and experiments, each with its file and plan, and the history
    experiments/.lock        held by whoever changes it

One file, replaced as a whole, so that a change and its line in the history are there together or
not at all. Orchestrators follow it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    Experiment,
    ExperimentBook,
    Layer,
    require_successor,
)
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError

FIXED = ("name", "layer", "kind", "unit", "surfaces", "arms")
"""Of an experiment, what its plan's hash covers."""


class Entry(BaseModel):
    """A line of the history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    by: str
    did: str
    name: str
    """Of the experiment; empty: of none."""
    what: str = ""
    """For people."""


class Record(BaseModel):
    """What is kept of an experiment beside what is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """The TOML that it was created from."""
    plan: dict[str, Any]
    """Fixed before there were data."""
    plan_hash: str
    days: float
    """How long it is to run from its start on."""


class StoredExperiments(BaseModel):
    """Everything at one moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    book: ExperimentBook = ExperimentBook()
    records: dict[str, Record] = {}
    history: tuple[Entry, ...] = ()

    def experiment(self, name: str) -> Experiment:
        """One experiment. Raises NotFoundError."""
        found = next((e for e in self.book.experiments if e.name == name), None)
        if found is None:
            known = ", ".join(e.name for e in self.book.experiments) or "none"
            raise NotFoundError(f"no experiment {name!r}; there is {known}")
        return found

    def record(self, name: str) -> Record:
        """Its file and its plan, which is as it was fixed.

        Raises:
            NotFoundError: there is no such experiment.
            DataError: somebody changed experiment or plan since.
        """
        experiment, record = self.experiment(name), self.records[name]
        if plan_hash(experiment, record.plan) != record.plan_hash:
            raise DataError(
                f"experiment {name}: its arms or its plan are not those that were fixed when it "
                f"was created (plan {record.plan_hash}); nothing it says is to be believed"
            )
        return record

    def moments(self, name: str) -> dict[str, datetime]:
        """When which thing was done to an experiment last."""
        return {entry.did: entry.at for entry in self.history if entry.name == name}


def plan_hash(experiment: Experiment, plan: Mapping[str, Any]) -> str:
    """Names what was fixed: 16 hexadecimal digits of a SHA-256."""
    said = experiment.model_dump(mode="json", include=set(FIXED))
    for arm in said["arms"]:
        # Plans that were fixed before arms could name models keep their hash.
        if not arm["models"]:
            del arm["models"]
    fixed = {"experiment": said, "plan": plan}
    text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ExperimentStore:
    """Experiments below one folder. Safe for several changing it and many reading."""

    root: Path

    @property
    def _file(self) -> Path:
        return self.root / "book.json"

    def stamp(self) -> tuple[int, int]:
        """Another one whenever anything changed."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def read(self) -> StoredExperiments:
        """Everything; nothing where nobody has created any.

        Raises:
            DataError: the file is damaged.
        """
        try:
            return StoredExperiments.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return StoredExperiments()
        except ValidationError as error:
            raise DataError(
                f"{self._file} is damaged ({said(error)}); orchestrators serve what they read "
                f"last; put a copy back"
            ) from error

    def create(
        self,
        experiment: Experiment,
        *,
        days: float,
        file: str,
        plan: Mapping[str, Any],
        by: str,
    ) -> Experiment:
        """Keeps an experiment that nobody takes part in yet.

        Args:
            experiment: its buckets are counted, and the first of them is found here.
            days: that it is to run.
            file: what it was read from.
            plan: of its analysis, as JSON.
            by: who does it.

        Raises:
            ConfigurationError: the name is taken, the layer has no room, or it could meet another
                experiment that says how the same pages are made.
        """
        with self._changing() as stored:
            book = _with(stored.book, experiment)
            placed = book.experiments[-1]
            record = Record(
                file=file, plan=dict(plan), plan_hash=plan_hash(placed, plan), days=days
            )
            self._write(
                stored,
                book,
                _entry(by, "created", placed.name, f"plan {record.plan_hash}"),
                records={**stored.records, placed.name: record},
            )
        return placed

    def check(self, experiment: Experiment) -> None:
        """Raises what :meth:`create` would raise, and changes nothing."""
        _valid(_with(self.read().book, experiment))

    def start(self, name: str, ramp: float, by: str, now: datetime) -> Experiment:
        """Lets the first units take part: now, or when it was planned to begin if that is later.

        Raises:
            NotFoundError: there is no such experiment.
            ConfigurationError: it has begun, or it was stopped.
        """
        with self._changing() as stored:
            before, record = stored.experiment(name), stored.record(name)
            if before.killed or before.ramp > 0:
                raise ConfigurationError(
                    f"experiment {name} was {'stopped' if before.killed else 'started'} already; "
                    f"{'create one with a new name' if before.killed else 'raise its ramp'}"
                )
            starts_at = max(now, before.starts_at)
            after = self._changed(
                before,
                ramp=ramp,
                starts_at=starts_at,
                ends_at=starts_at + (before.ends_at - before.starts_at),
            )
            what = f"ramp {ramp:g}, from {starts_at:%Y-%m-%d %H:%M} for {record.days:g} days"
            self._replace(stored, after, _entry(by, "started", name, what))
        return after

    def ramp(self, name: str, ramp: float, by: str) -> Experiment:
        """Raises the share of its units that take part.

        Raises:
            NotFoundError: there is no such experiment.
            ConfigurationError: it does not run, or fewer would take part.
        """
        with self._changing() as stored:
            before = stored.experiment(name)
            require_running(before, datetime.now(UTC))
            after = self._changed(before, ramp=ramp)
            require_successor(before, after)
            if after != before:
                what = f"ramp {before.ramp:g} to {ramp:g}"
                self._replace(stored, after, _entry(by, "ramped", name, what))
        return after

    def stop(self, name: str, reason: str, by: str) -> bool:
        """The kill switch: nobody takes part from now on. False: it was stopped already."""
        with self._changing() as stored:
            before = stored.experiment(name)
            if before.killed:
                return False
            after = self._changed(before, killed=True)
            self._replace(stored, after, _entry(by, "stopped", name, reason))
        return True

    def hold_out(self, share: float, by: str) -> float:
        """Keeps a share of all units out of every experiment; returns what it was."""
        with self._changing() as stored:
            before = stored.book.holdout_share
            if share != before:
                book = stored.book.model_copy(update={"holdout_share": share})
                what = f"{before:g} to {share:g}"
                self._write(stored, book, _entry(by, "held out", "", what))
        return before

    @staticmethod
    def _changed(before: Experiment, **fields: Any) -> Experiment:
        try:
            return Experiment.model_validate(before.model_dump() | fields)
        except ValidationError as error:
            raise ConfigurationError(said(error)) from error

    def _replace(self, stored: StoredExperiments, after: Experiment, entry: Entry) -> None:
        experiments = tuple(after if e.name == after.name else e for e in stored.book.experiments)
        book = stored.book.model_copy(update={"experiments": experiments})
        self._write(stored, book, entry)

    def _write(
        self,
        stored: StoredExperiments,
        book: ExperimentBook,
        entry: Entry,
        records: Mapping[str, Record] | None = None,
    ) -> None:
        after = StoredExperiments(
            book=_valid(book),
            records=dict(stored.records if records is None else records),
            history=(*stored.history, entry),
        )
        pending = self.root / f".book.{os.getpid()}"
        with pending.open("w") as file:
            file.write(after.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        pending.replace(self._file)

    @contextmanager
    def _changing(self) -> Iterator[StoredExperiments]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("a")
        except OSError as error:
            raise ConfigurationError(f"cannot write to {self.root}: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.read()


def _entry(by: str, did: str, name: str, what: str) -> Entry:
    return Entry(at=datetime.now(UTC), by=by, did=did, name=name, what=what)


def _valid(book: ExperimentBook) -> ExperimentBook:
    try:
        return ExperimentBook.model_validate(book.model_dump())
    except ValidationError as error:
        raise ConfigurationError(said(error)) from error


def _with(book: ExperimentBook, experiment: Experiment) -> ExperimentBook:
    """The book with another experiment, last, in free buckets; nobody takes part in it."""
    if any(one.name == experiment.name for one in book.experiments):
        raise ConfigurationError(
            f"name: there is an experiment {experiment.name} already; names are for ever, because "
            f"they decide which unit gets which arm"
        )
    layers = book.layers
    if experiment.layer not in {layer.name for layer in layers}:
        salt = f"{experiment.layer}/{secrets.token_hex(8)}"
        layers = (*layers, Layer(name=experiment.layer, salt=salt))
    placed = experiment.model_copy(update={"first_bucket": _free(book, experiment), "ramp": 0.0})
    return book.model_copy(update={"layers": layers, "experiments": (*book.experiments, placed)})


def _free(book: ExperimentBook, wanted: Experiment) -> int:
    """The first bucket of a run that nobody has; who has not started yet keeps theirs."""
    now = datetime.now(UTC)
    taken = sorted(
        (one.first_bucket, one.first_bucket + one.buckets)
        for one in book.experiments
        if one.layer == wanted.layer
        and one.unit == wanted.unit
        and not one.killed
        and (one.ramp == 0 or one.ends_at > now)
    )
    first, most = 0, 0
    for start, end in [*taken, (BUCKETS, BUCKETS)]:
        most = max(most, start - first)
        if start - first >= wanted.buckets:
            return first
        first = max(first, end)
    raise ConfigurationError(
        f"share: {wanted.buckets / BUCKETS:g} of layer {wanted.layer} is not free; the largest "
        f"part that is: {most / BUCKETS:g}"
    )


def require_running(experiment: Experiment, now: datetime) -> None:
    """Raises ConfigurationError, saying why it does not and what to do."""
    name = experiment.name
    if experiment.killed:
        raise ConfigurationError(f"experiment {name} was stopped; create one with a new name")
    if experiment.ramp == 0:
        raise ConfigurationError(
            f"experiment {name} has not started; run: recmesh experiment start {name}"
        )
    if experiment.ends_at <= now:
        raise ConfigurationError(
            f"experiment {name} ended on {experiment.ends_at:%Y-%m-%d %H:%M}; create one with a "
            f"new name"
        )


def said(error: ValidationError) -> str:
    """What breaks a rule, with the rule and the value."""
    return "; ".join(_problem(problem) for problem in error.errors())


def _problem(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    place = f"{place}: " if place else ""
    if problem["type"] in ("value_error", "json_invalid"):
        return f"{place}{message}"
    return f"{place}{message} (is {problem['input']!r})"
