"""Offers a process' measures to Prometheus on a port of its own, where no Ray does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from recmesh.deployments.ip_address import LOOPBACK
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.telemetry.measures import Counter, Gauge, Measure, Measures


def family(measure: Measure, constant: dict[str, str]) -> Metric:
    """A measure as Prometheus' library knows it, with labels that all series have."""
    names, values = [*constant, *measure.labels], list(constant.values())
    if isinstance(measure, Counter):
        counter = CounterMetricFamily(measure.name, measure.help, labels=names)
        for labels, value in measure.values().items():
            counter.add_metric([*values, *labels], value)
        return counter
    if isinstance(measure, Gauge):
        gauge = GaugeMetricFamily(measure.name, measure.help, labels=names)
        for labels, value in measure.values().items():
            gauge.add_metric([*values, *labels], value)
        return gauge
    histogram = HistogramMetricFamily(measure.name, measure.help, labels=names)
    for labels, (counts, total) in measure.values().items():
        below = 0
        buckets = []
        for bound, count in zip((*measure.bounds, float("inf")), counts, strict=True):
            below += count
            buckets.append((bound_text(bound), float(below)))
        histogram.add_metric([*values, *labels], buckets, total)
    return histogram


def bound_text(bound: float) -> str:
    """A bucket's bound as Prometheus writes it."""
    return "+Inf" if bound == float("inf") else str(float(bound))


class _Families(Collector):
    def __init__(self, measures: Measures, constant: dict[str, str]) -> None:
        self._measures = measures
        self._constant = constant

    def collect(self) -> Iterable[Metric]:
        """Everything as it is now."""
        return [family(measure, self._constant) for measure in self._measures.read()]


@contextmanager
def metrics_offered(
    measures: Measures, port: int, constant: dict[str, str], host: str = LOOPBACK
) -> Iterator[int]:
    """Answers ``GET /metrics`` while the context is open; port 0 picks a free one.

    Yields the port. Raises ConfigurationError when the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(_Families(measures, constant))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigurationError(
            f"cannot offer metrics on port {port} of {host}: {error.strerror}; choose another "
            f"telemetry.metrics_port"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
