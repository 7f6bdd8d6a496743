"""What a command that deploys says while it does."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from recmesh.deployments.applications import RUNNING, ApplicationState


class DeployingProgress:
    """Says each step once, and each application once it runs or has failed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_s = time.monotonic()
        self._said: set[str] = set()

    def __call__(self, step: str, states: Sequence[ApplicationState]) -> None:
        """Told a step, and how applications are meanwhile."""
        if step != "deploying":
            self._say(step)
        for state in states:
            if state.state == RUNNING:
                self._say(f"{state.name} runs")
            elif state.settled:
                self._say(f"{state.name} {state.state}: {state.message}")

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            elapsed_s = time.monotonic() - self._started_s
            self._console.print(f"[dim]{elapsed_s:5.1f} s[/dim]  {escape(line)}")
