"""What a command of several stages shows: a bar for what runs, a line for what is done."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.markup import escape

from recmesh.cli.progress_bars import progress_bars
from recmesh.models.model import Progress as Show


class StageProgress:
    """On standard error. A context manager; the bars are gone at its end, the lines stay."""

    def __init__(self, quiet: bool) -> None:
        self.bars = progress_bars(quiet)
        """For work that shows more than one thing at once."""
        self._quiet = quiet
        self._task = self.bars.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def stage(self, name: str) -> Show:
        """Shows a stage, or a part of one; returns who is told how far it is."""
        self.bars.reset(self._task, total=None, description=name, visible=True)

        def show(done: float, total: float, message: str) -> None:
            self.bars.update(
                self._task, completed=done, total=total, description=f"{name}: {message}"
            )

        return show

    def done(self, name: str, said: str) -> None:
        """A stage has ended, and how."""
        self.bars.update(self._task, visible=False)
        if not self._quiet:
            self.bars.console.print(
                f"[bold]{name:<9}[/bold]{escape(said)}", highlight=False, soft_wrap=True
            )
