"""The embedded Milvus: Milvus Lite as one TCP server process that its starter owns."""

from __future__ import annotations

import fcntl
import importlib.util
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from recmesh.storage.child_process import dies_with_starter
from recmesh.storage.errors import ConfigurationError, UnavailableError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _libraries() -> Path:
    # Found without importing it: the package needs setuptools at import, its binary does not.
    spec = importlib.util.find_spec("milvus_lite")
    if spec is None or spec.origin is None:
        raise ConfigurationError("milvus-lite is not installed; install it or name a Milvus server")
    return Path(spec.origin).parent / "lib"


class MilvusProcess:
    """One server on one file. A context manager; also ``start`` and ``stop``."""

    def __init__(self, file: Path, port: int = 0) -> None:
        self._file = file
        self._port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def uri(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process id; none while it is down."""
        return self._process.pid if self._process is not None and self.alive else None

    def restart(self) -> None:
        """Starts the server again where it was. Raises as :meth:`start` does."""
        self.stop()
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers. It ends with the calling thread.

        Raises:
            ConfigurationError: another process serves the file.
            UnavailableError: the server does not come up; its log is beside the file.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._file.with_name(f".{self._file.name}.lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.stop()
            raise ConfigurationError(
                f"{self._file} is served by another process; stop it or pass its --uri"
            ) from error
        libraries = _libraries()
        with self._file.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                dies_with_starter(
                    [
                        # Not in our own environment: these are no libraries for Python.
                        *("/usr/bin/env", f"LD_LIBRARY_PATH={libraries}"),
                        # Into the log below, not into a file in /tmp for every start.
                        "GLOG_logtostderr=1",
                        str(libraries / "milvus"),
                        str(self._file.absolute()),
                        f"127.0.0.1:{self._port}",
                        "ERROR",
                    ]
                ),
                cwd=self._file.parent,
                # Ctrl-C in a terminal reaches the whole group: who started it ends it.
                process_group=0,
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise UnavailableError(
            f"Milvus did not start on port {self._port}; see {self._file.with_suffix('.log')}"
        )

    def stop(self) -> None:
        """Ends the server; nothing happens when it is not running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> MilvusProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
