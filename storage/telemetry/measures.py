"""Counters, gauges and histograms of one process, cheap enough for the path of a request.

To count costs a look into a dictionary. Prometheus' and OpenTelemetry's own instruments, and Ray's,
cost 7 to 30 times as much (ADR 0005); what exports these reads them every few seconds. Names, types
and labels are Prometheus'.

A measure is written to by one thread, its process' event loop or the one that works for it, and
read by any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

Labels = tuple[str, ...]

DURATIONS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    *(0.4, 0.5, 0.75, 1.0, 2.5, 5.0),
)
"""Close together where deadlines of pages are, so that a quantile there is worth something."""


class Counter:
    """Only grows."""

    def __init__(self, name: str, help_: str, labels: Labels = ()) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Adds ``amount`` ≥ 0 under the labels' values."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def grown_to(self, value: float, *labels: str) -> None:
        """Takes over a count that is kept elsewhere."""
        self._values[labels] = max(value, self._values.get(labels, 0.0))

    def values(self) -> dict[Labels, float]:
        """By the labels' values."""
        return dict(self._values)

    def clear(self) -> None:
        """Forgets everything; for tests."""
        self._values = {}


class Gauge:
    """Goes up and down."""

    def __init__(self, name: str, help_: str, labels: Labels = ()) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self._values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        """Is ``value`` now under the labels' values."""
        self._values[labels] = value

    def replace(self, values: Mapping[Labels, float]) -> None:
        """These and no others from now on."""
        self._values = dict(values)

    def values(self) -> dict[Labels, float]:
        """By the labels' values."""
        return dict(self._values)

    def clear(self) -> None:
        """Forgets everything; for tests."""
        self._values = {}


class _Series:
    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


class Histogram:
    """How often values were at most each bound."""

    def __init__(self, name: str, help_: str, labels: Labels, bounds: Sequence[float]) -> None:
        """``bounds`` ascend; a last one, infinite, is added."""
        self.name = name
        self.help = help_
        self.labels = labels
        self.bounds = tuple(bounds)
        self._series: dict[Labels, _Series] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Counts a value under the labels' values."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(len(self.bounds) + 1)
        series.counts[bisect_left(self.bounds, value)] += 1
        series.sum += value

    def values(self) -> dict[Labels, tuple[list[int], float]]:
        """By the labels' values: how many in each bucket, the infinite one last, and their sum."""
        return {labels: (list(s.counts), s.sum) for labels, s in list(self._series.items())}

    def clear(self) -> None:
        """Forgets everything; for tests."""
        self._series = {}


Measure = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)


class Measures:
    """All of a process, and who brings them up to date before they are read."""

    def __init__(self) -> None:
        self._all: list[Measure] = []
        self._refreshers: list[Callable[[], None]] = []

    def add(self, measure: M) -> M:
        """One more; returns it."""
        self._all.append(measure)
        return measure

    @contextmanager
    def refreshed_by(self, refresh: Callable[[], None]) -> Iterator[None]:
        """Calls ``refresh`` before every reading while the context is open.

        For what is known anyway and would cost something to keep twice. It must not raise.
        """
        self._refreshers.append(refresh)
        try:
            yield
        finally:
            self._refreshers.remove(refresh)

    def read(self) -> list[Measure]:
        """All, brought up to date."""
        for refresh in list(self._refreshers):
            refresh()
        return list(self._all)

    def clear(self) -> None:
        """Forgets everything counted; for tests."""
        for measure in self._all:
            measure.clear()
