"""A benchmark's own server in a process of its own, so that its CPU can be told apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def served_alone(module: str, folder: str) -> Iterator[tuple[IO[str], int]]:
    """Runs ``python -m module --serve folder``; what it prints, and its process id."""
    serving = subprocess.Popen(
        [sys.executable, "-m", module, "--serve", folder], stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        yield serving.stdout, serving.pid
    finally:
        serving.kill()
        serving.wait()
