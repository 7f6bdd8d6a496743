from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recmesh.deployments.metrics_endpoint import metrics_offered
from recmesh.deployments.ray_metrics import RayMetrics
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.telemetry.measures import Counter, Gauge, Histogram, Measures
from recmesh.storage.telemetry.mesh_measures import MEASURES


@pytest.fixture
def measures() -> Measures:
    made = Measures()
    counter = made.add(Counter("m_calls_total", "Calls.", ("code",)))
    gauge = made.add(Gauge("m_replicas", "Replicas.", ("model",)))
    histogram = made.add(Histogram("m_seconds", "Time.", ("method",), (0.1, 1.0)))
    counter.add("OK")
    counter.add("OK", amount=2)
    gauge.set(3, "cf")
    for value in (0.1, 0.5, 7.0):
        histogram.observe(value, "Recommend")
    return made


class FakeRay:
    """What Ray's agent would know, by series."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], float] = {}

    def make(self, name: str, help_: str, labels: tuple[str, ...]) -> Any:
        fake = self

        class Series:
            def set(self, value: float, tags: dict[str, str]) -> None:
                assert set(tags) == set(labels)
                fake.series[name, json.dumps(tags, sort_keys=True)] = value

            def inc(self, value: float, tags: dict[str, str]) -> None:
                key = name, json.dumps(tags, sort_keys=True)
                self.set(fake.series.get(key, 0.0) + value, tags)

        return Series()

    def value(self, name: str, **tags: str) -> float:
        return self.series[name, json.dumps(tags, sort_keys=True)]


def test_prometheus_reads_what_was_counted(measures: Measures) -> None:
    with metrics_offered(measures, 0, {"application": "cf"}) as port:
        text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    values = {
        (s.name, s.labels.get("le", "")): s.value for f in families.values() for s in f.samples
    }
    assert families["m_calls"].type == "counter"
    assert families["m_seconds"].type == "histogram"
    assert values["m_calls_total", ""] == 3
    assert values["m_replicas", ""] == 3
    assert [values["m_seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")] == [1, 2, 3]
    assert values["m_seconds_sum", ""] == pytest.approx(7.6)
    assert all(s.labels["application"] == "cf" for f in families.values() for s in f.samples)


def test_a_taken_port_is_a_clear_error(measures: Measures) -> None:
    with (
        metrics_offered(measures, 0, {}) as port,
        pytest.raises(ConfigurationError, match=r"telemetry\.metrics_port"),
        metrics_offered(measures, port, {}),
    ):
        pass


def test_ray_gets_growth_of_counters_and_exact_histograms(measures: Measures) -> None:
    ray = FakeRay()
    pushing = RayMetrics(measures, {"application": "cf"}, ray.make, ray.make)
    pushing.push()
    pushing.push()
    assert ray.value("m_calls_total", application="cf", code="OK") == 3
    bucket = "m_seconds_bucket"
    for le, count in (("0.1", 1), ("1.0", 2), ("+Inf", 3)):
        assert ray.value(bucket, application="cf", method="Recommend", le=le) == count
    assert ray.value("m_seconds_count", application="cf", method="Recommend") == 3
    counter, gauge, _ = measures.read()
    assert isinstance(counter, Counter)
    assert isinstance(gauge, Gauge)
    counter.add("OK", amount=4)
    gauge.replace({("nlp",): 1.0})
    pushing.push()
    assert ray.value("m_calls_total", application="cf", code="OK") == 7
    assert ray.value("m_replicas", application="cf", model="nlp") == 1
    assert ray.value("m_replicas", application="cf", model="cf") == 0, "gone, and said"


def test_what_is_known_elsewhere_is_read_when_somebody_asks(measures: Measures) -> None:
    gauge = measures.add(Gauge("m_depth", "Depth."))
    with measures.refreshed_by(lambda: gauge.set(5)):
        assert gauge in measures.read()
        assert gauge.values() == {(): 5}
    gauge.set(1)
    measures.read()
    assert gauge.values() == {(): 1}


def test_the_page_lists_every_name_with_its_labels() -> None:
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
    for measure in MEASURES.read():
        labels = ", ".join(f"`{label}`" for label in measure.labels) or "none"
        kind = type(measure).__name__.lower()
        assert f"| `{measure.name}` | {kind} | {labels} |" in page
