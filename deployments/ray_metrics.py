"""Hands a replica's measures to the metrics agent of its Ray node, which Prometheus asks.

The agent is one target a node, whatever runs there. It puts ``ray_`` before every name. Ray's
histograms are recorded value by value and only approximate sums, so the parts of a histogram go as
series of their own, counted here: exact, and nothing on the path of a request (ADR 0005).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray.util.metrics
import structlog

from recmesh.deployments.metrics_endpoint import bound_text
from recmesh.storage.telemetry.measures import Counter, Gauge, Labels, Measure, Measures

log = structlog.get_logger(__name__)

EVERY_S = 5.0
"""Ray's agent hears of it within another 10 s."""

Make = Callable[[str, str, Labels], Any]


def _ray_counter(name: str, help_: str, labels: Labels) -> Any:
    return ray.util.metrics.Counter(name, help_, labels)


def _ray_gauge(name: str, help_: str, labels: Labels) -> Any:
    return ray.util.metrics.Gauge(name, help_, labels)


class RayMetrics:
    """One replica's. Belongs to one event loop."""

    def __init__(
        self,
        measures: Measures,
        constant: dict[str, str],
        counter: Make = _ray_counter,
        gauge: Make = _ray_gauge,
    ) -> None:
        """``constant`` are labels that all series have."""
        self._measures = measures
        self._constant = constant
        self._makers = {"counter": counter, "gauge": gauge}
        self._made: dict[str, Any] = {}
        self._told: dict[tuple[str, Labels], float] = {}

    @contextmanager
    def pushed(self) -> Iterator[None]:
        """Hands everything on every few seconds while the context is open."""
        pushing = asyncio.create_task(self._push_for_ever(), name="push-metrics")
        try:
            yield
        finally:
            pushing.cancel()

    async def _push_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                self.push()
            except Exception:
                log.exception("metrics_not_pushed")

    def push(self) -> None:
        """Hands everything on as it is now."""
        for measure in self._measures.read():
            self._push(measure)

    def _push(self, measure: Measure) -> None:
        if isinstance(measure, Counter):
            for labels, value in measure.values().items():
                self._counted(measure, labels, value)
        elif isinstance(measure, Gauge):
            values = measure.values()
            for labels, value in values.items():
                self._gauge(measure.name, measure, labels, value)
            # The agent keeps a gauge's last value as long as the process lives.
            for name, labels in list(self._told):
                if name == measure.name and labels not in values:
                    self._gauge(name, measure, labels, 0.0)
                    del self._told[name, labels]
            self._told.update({(measure.name, labels): 0.0 for labels in values})
        else:
            for labels, (counts, total) in measure.values().items():
                below = 0
                for bound, count in zip((*measure.bounds, float("inf")), counts, strict=True):
                    below += count
                    self._gauge(
                        f"{measure.name}_bucket", measure, (*labels, bound_text(bound)), below
                    )
                self._gauge(f"{measure.name}_count", measure, labels, below)
                self._gauge(f"{measure.name}_sum", measure, labels, total)

    def _counted(self, measure: Counter, labels: Labels, value: float) -> None:
        grown = value - self._told.get((measure.name, labels), 0.0)
        if grown > 0:
            self._series("counter", measure.name, measure).inc(grown, self._tags(measure, labels))
            self._told[measure.name, labels] = value

    def _gauge(self, name: str, measure: Measure, labels: Labels, value: float) -> None:
        self._series("gauge", name, measure).set(value, self._tags(measure, labels))

    def _series(self, kind: str, name: str, measure: Measure) -> Any:
        found = self._made.get(name)
        if found is None:
            labels = (*self._constant, *measure.labels)
            if name.endswith("_bucket"):
                labels = (*labels, "le")
            found = self._made[name] = self._makers[kind](name, measure.help, labels)
        return found

    def _tags(self, measure: Measure, labels: Labels) -> dict[str, str]:
        names = measure.labels if len(labels) == len(measure.labels) else (*measure.labels, "le")
        return self._constant | dict(zip(names, labels, strict=True))
