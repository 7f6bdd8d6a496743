"""What can be done to a running mesh's processes, and undone."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import psutil

from benchmarks.own_command import command
from benchmarks.postgresql_server import PostgresqlServer
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.home import Home

KILL_AGAIN_S = 0.1
SLOW_TURN_S = 0.1
"""A slowed process runs a tenth of every such turn."""
SLOWED = 10


class MeshProcesses:
    """Processes of the mesh that one ``recmesh up`` runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def called(self, titles: Sequence[str], most: int = 0) -> list[psutil.Process]:
        """Those whose command line contains one of the titles; at most so many of each title."""
        found: list[psutil.Process] = []
        children = psutil.Process(self._pid).children(recursive=True)
        for title in titles:
            mine = []
            for process in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if title in " ".join(process.cmdline()):
                        mine.append(process)
            found += mine[:most] if most else mine
        return found


class Fault(ABC):
    """Something that happens to a part for a while."""

    def __init__(self, part: str, *titles: str, most: int = 0) -> None:
        """``titles`` are of the part's processes; ``most`` of each are hit, 0: all."""
        self.part = part
        self._titles = titles
        self._most = most

    @property
    @abstractmethod
    def name(self) -> str:
        """What happens, in a word."""

    @property
    def title(self) -> str:
        """Part and what happens to it."""
        return f"{self.part} {self.name}"

    @contextmanager
    @abstractmethod
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """Begins it, and ends it with the context."""

    def hit(self, mesh: MeshProcesses) -> list[psutil.Process]:
        """Whom it happens to; ends the run when there is nobody."""
        found = mesh.called(self._titles, self._most)
        if not found:
            raise SystemExit(f"no process of {self.part} is there to be {self.name}")
        return found


class Killed(Fault):
    """Ended without warning, once."""

    name = "killed"

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """It is for others to start it again."""
        for process in self.hit(mesh):
            process.kill()
        yield


class Paused(Fault):
    """There, and silent."""

    name = "paused"

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """By SIGSTOP and SIGCONT."""
        hit = self.hit(mesh)
        for process in hit:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            _go_on(hit)


class ServerStopped(Fault):
    """PostgreSQL ends without finishing anything; nobody starts it again meanwhile."""

    name = "stopped"

    def __init__(self, server: PostgresqlServer) -> None:
        super().__init__("PostgreSQL")
        self._server = server

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """As by ``pg_ctl stop -m immediate``."""
        self._server.stop(at_once=True)
        try:
            yield
        finally:
            self._server.start()


class ServerPaused(Paused):
    """PostgreSQL is there, and silent: the postmaster and all connections."""

    def __init__(self, server: PostgresqlServer) -> None:
        super().__init__("PostgreSQL")
        self._server = server

    def hit(self, mesh: MeshProcesses) -> list[psutil.Process]:
        """It is no process of the mesh."""
        return self._server.processes()


class DiskFull(Fault):
    """None of its files may grow any more."""

    name = "disk full"

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """By RLIMIT_FSIZE, which fails writes as a full disk does."""
        hit = [process.pid for process in self.hit(mesh)]
        before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in hit}
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            for pid, limits in before.items():
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


class _Meanwhile(Fault):
    """A fault that somebody works at."""

    @abstractmethod
    def work(self, mesh: MeshProcesses, over: threading.Event) -> None:
        """Until it is over."""

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """In a thread."""
        over = threading.Event()
        working = threading.Thread(target=self.work, args=(mesh, over))
        working.start()
        try:
            yield
        finally:
            over.set()
            working.join()


class Slowed(_Meanwhile):
    """As on a tenth of the machine."""

    name = f"slowed {SLOWED}x"

    def work(self, mesh: MeshProcesses, over: threading.Event) -> None:
        """Stops it for nine tenths of the time."""
        hit = self.hit(mesh)
        run_s = SLOW_TURN_S / SLOWED
        while not over.wait(run_s):
            for process in hit:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGSTOP)
            over.wait(SLOW_TURN_S - run_s)
            _go_on(hit)
        _go_on(hit)


class Down(_Meanwhile):
    """Killed again as soon as it is back."""

    name = "down"

    def work(self, mesh: MeshProcesses, over: threading.Event) -> None:
        """Kills whoever is there."""
        while True:
            for process in mesh.called(self._titles):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if over.wait(KILL_AGAIN_S):
                return


class Poisoned(Fault):
    """A version of a model that answers NaN is deployed, and then rolled back."""

    name = "answers NaN"

    def __init__(self, model: str, home: Home) -> None:
        super().__init__(model)
        self._home = home

    @contextmanager
    def happening(self, mesh: MeshProcesses) -> Iterator[None]:
        """Takes as long as its owner's commands."""
        store = ArtifactStore(self._home.artifacts)
        live = store.load(self.part, "")
        tensors = {
            name: np.full_like(values, np.nan) if values.dtype.kind == "f" else values
            for name, values in live.tensors.items()
        }
        version = store.publish(live.card, tensors, live.strings, live=False)
        command("model", "deploy", self.part, "--version", version)
        try:
            yield
        finally:
            command("model", "rollback", self.part)


def _go_on(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
