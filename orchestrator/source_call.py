"""Asking one component within a request: time limit, circuit breaker, status.

Whatever goes wrong ends as a status of the request, never as its error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from opentelemetry.trace import SpanKind

from recmesh.orchestrator.circuit_breaker import CircuitBreaker
from recmesh.orchestrator.deadline import Deadline
from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.seen import Seen
from recmesh.storage.errors import DeadlineError, RecMeshError, UnavailableError
from recmesh.storage.telemetry.mesh_measures import SOURCE_CALLS, SOURCE_DURATION
from recmesh.storage.telemetry.spans import failed, span
from recmesh.v1 import common_pb2

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)

MINIMUM_CALL_S = 0.002
STATES = {
    number: name.removeprefix("SOURCE_STATE_").lower()
    for name, number in common_pb2.SourceState.items()
}
"""How spans and measures call the states of sources."""


@dataclass(slots=True)
class SourceCalls:
    """All calls of one request, and how each component answered them."""

    deadline: Deadline
    breakers: dict[str, CircuitBreaker]
    """By the name that a component is asked under."""
    tallies: Mapping[str, CallTally] = field(default_factory=dict)
    """Where calls are counted, by the same."""
    seen: list[Seen] = field(default_factory=list)
    """What live models answered that another version is to be asked, too."""
    statuses: dict[str, common_pb2.SourceStatus] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    """Who is not asked again: no answer, or none of the contract."""

    def record(
        self, name: str, state: common_pb2.SourceState.ValueType, latency_s: float, detail: str = ""
    ) -> common_pb2.SourceStatus:
        """Adds one call to a component's status; its worst state stays."""
        status = self.statuses.get(name)
        if status is None:
            status = self.statuses[name] = common_pb2.SourceStatus(name=name, state=state)
        if state != common_pb2.SOURCE_STATE_OK:
            status.state = state
            status.detail = detail
        status.latency.FromNanoseconds(status.latency.ToNanoseconds() + int(latency_s * 1e9))
        return status

    def waited_s(self, name: str) -> float:
        """For a component, over all its calls."""
        status = self.statuses.get(name)
        return 0.0 if status is None else status.latency.ToNanoseconds() / 1e9

    def gave_up(self, asked: str) -> bool:
        """Whether a component, by the name of whom :meth:`ask` asks, is not asked again."""
        return asked in self._failed

    def refuse_answer(self, name: str, detail: str, asked: str = "") -> None:
        """What a component answered breaks its contract; names are those of :meth:`ask`."""
        self._failed.add(asked or name)
        self.record(name, common_pb2.SOURCE_STATE_ERROR, 0.0, detail)

    async def ask(
        self,
        name: str,
        timeout_s: float,
        call: Callable[[float], Awaitable[Answer]],
        asked: str = "",
    ) -> Answer | None:
        """Makes one call. None when there is no answer; the status says why.

        A component that has failed this request once is not asked by it again: two timeouts, one
        after the other, would be its whole deadline.

        Args:
            name: of the component.
            timeout_s: it may take.
            call: is given the seconds it may take.
            asked: the name of whom it asks, where that is not ``name``.
        """
        asked = asked or name
        if self.gave_up(asked):
            return None
        allowed_s = min(timeout_s, self.deadline.remaining_s())
        if allowed_s < MINIMUM_CALL_S:
            SOURCE_CALLS.add(asked, "no_time")
            self.record(name, common_pb2.SOURCE_STATE_NO_TIME, 0.0, "no time left in the deadline")
            return None
        breaker = self.breakers.setdefault(asked, CircuitBreaker())
        if not breaker.allows():
            SOURCE_CALLS.add(asked, "circuit_open")
            self._tally(asked, 0.0, answered=False)
            self._failed.add(asked)
            self.record(
                name, common_pb2.SOURCE_STATE_CIRCUIT_OPEN, 0.0, "failed repeatedly; left alone"
            )
            return None
        started_s = time.monotonic()
        answer: Answer | None = None
        with span(asked, SpanKind.CLIENT) as asking:
            try:
                async with asyncio.timeout(allowed_s):
                    answer = await call(allowed_s)
                state, detail = common_pb2.SOURCE_STATE_OK, ""
            except (TimeoutError, DeadlineError):
                state, detail = common_pb2.SOURCE_STATE_TIMEOUT, f"no answer in {allowed_s:.3f} s"
            except UnavailableError:
                state, detail = common_pb2.SOURCE_STATE_UNAVAILABLE, "cannot be reached"
            except RecMeshError as error:
                state, detail = common_pb2.SOURCE_STATE_ERROR, f"answered {error.code}"
            except Exception:
                # A defect in one source's adapter must not cost the user their page.
                log.exception("source call failed", source=name)
                state, detail = common_pb2.SOURCE_STATE_ERROR, "internal error"
            if state != common_pb2.SOURCE_STATE_OK:
                failed(asking, STATES[state])
        took_s = time.monotonic() - started_s
        answered = state == common_pb2.SOURCE_STATE_OK
        if answered:
            breaker.succeeded()
        else:
            breaker.failed()
            self._failed.add(asked)
        SOURCE_CALLS.add(asked, STATES[state])
        SOURCE_DURATION.observe(took_s, asked)
        self._tally(asked, took_s, answered=answered)
        self.record(name, state, took_s, detail)
        return answer

    def _tally(self, asked: str, took_s: float, *, answered: bool) -> None:
        tally = self.tallies.get(asked)
        if tally is not None:
            tally.add(took_s, answered=answered)
