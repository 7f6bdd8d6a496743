"""The model in another language of ``examples/node-model``, run as its owner runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "node-model"
NAME = "specialty-popularity"
ENDS_S = 20


def installed_node() -> str:
    """The program, once its libraries are installed; skips where there is none."""
    found = shutil.which("node")
    npm = shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("node and npm are not installed: a model in Node.js cannot be run")
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return found


@contextmanager
def node_model(node: str, dataset: Path) -> Iterator[dict[str, Any]]:
    """What the server says once it serves, and its process."""
    process = subprocess.Popen(
        [node, "server.js", str(dataset)], cwd=EXAMPLE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield {**json.loads(process.stdout.readline()), "process": process}
    finally:
        process.kill()
        process.wait(ENDS_S)
