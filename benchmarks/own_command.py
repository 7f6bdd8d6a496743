"""Commands of ours, as an operator gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def command(*arguments: str, cwd: Path | None = None, **variables: str) -> None:
    """``recmesh`` with these arguments, in a folder; ends the run where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "recmesh.cli.main", *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"recmesh {' '.join(arguments)}: {done.stderr or done.stdout}")
