"""A model's folder served over gRPC by a process of its own, as a replica would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from recmesh.storage.child_process import dies_with_starter
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home

START_S = 120.0
POLL_S = 0.05
STOP_S = 5.0
ERROR = re.compile(r"^[\w.]*(Error|Exception)\b.*", re.MULTILINE)


class ServedFolder:
    """Serves while the context is open. Its thread must outlive it."""

    def __init__(self, target: str, version: str, home: Home) -> None:
        """``target`` as of :class:`ModelFolder`; ``version`` empty: the live one of ``home``."""
        self._command = [target, version]
        self._home = home
        self.address = ""
        """``host:port``."""

    def __enter__(self) -> Self:
        """Raises UnavailableError when it does not come up, with its last words."""
        self._folder = tempfile.TemporaryDirectory(prefix="recmesh-model-check-")
        self._log = Path(self._folder.name) / "log"
        self._start()
        return self

    def revived(self) -> str:
        """Starts it again if it has ended; its new address, or empty when it runs."""
        if self._process.poll() is None:
            return ""
        self._start()
        return self.address

    def _start(self) -> None:
        ready = Path(self._folder.name) / "ready.json"
        ready.unlink(missing_ok=True)
        module = "recmesh.offline.model_checks.folder_server"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                dies_with_starter([sys.executable, "-m", module, *self._command, str(ready)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # As Ray gives a replica that reserves less than two cores.
                env={
                    "OMP_NUM_THREADS": "1",
                    **os.environ,
                    "RECMESH_HOME": str(self._home.root),
                },
            )
        end_s = time.monotonic() + START_S
        while not ready.is_file():
            if self._process.poll() is not None or time.monotonic() > end_s:
                said = self._log.read_text(errors="replace").strip().splitlines()
                self.close()
                raise UnavailableError(
                    f"the model cannot be served: {said[-1] if said else 'no word of why'}"
                )
            time.sleep(POLL_S)
        self.address = json.loads(ready.read_text())["address"]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def last_error(self) -> str:
        """The last line of its log that ends a traceback; empty when there is none."""
        ends = [found.group() for found in ERROR.finditer(self._log.read_text(errors="replace"))]
        return ends[-1][:300] if ends else ""

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
