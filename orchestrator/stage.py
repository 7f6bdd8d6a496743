"""A stage of a page, timed: its span and its measure."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from recmesh.storage.telemetry.current_call import current_surface
from recmesh.storage.telemetry.mesh_measures import STAGE_DURATION
from recmesh.storage.telemetry.spans import failed, span


class Stage:
    """``with Stage("retrieve") as stage: …``; what is done inside is the stage."""

    __slots__ = ("_name", "_open", "_span", "_started_s")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Self:
        self._open = span(self._name)
        self._span = self._open.__enter__()
        self._started_s = time.perf_counter()
        return self

    def left(self, candidates: int) -> None:
        """So many candidates are there at its end."""
        self._span.set_attribute("recmesh.candidates", candidates)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        STAGE_DURATION.observe(time.perf_counter() - self._started_s, self._name, current_surface())
        if kind is not None:
            failed(self._span, kind.__name__)
        self._open.__exit__(kind, error, traceback)
