from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from rich.console import Console
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.cli.mesh_rates import mesh_rates
from recmesh.cli.top import _view
from recmesh.deployments.metrics_reader import Reading, parsed, quantile

BEFORE = """
# TYPE ray_recmesh_requests_total counter
ray_recmesh_requests_total{WorkerId="1",method="Recommend",surface="feed",code="OK"} 100
ray_recmesh_requests_total{WorkerId="2",method="Recommend",surface="feed",code="OK"} 50
ray_recmesh_requests_total{WorkerId="3",method="Score",surface="",code="OK"} 900
ray_recmesh_source_calls_total{source="cf",state="ok"} 100
ray_recmesh_source_calls_total{source="cf",state="timeout"} 1
ray_recmesh_model_replicas{model="cf",replica="a",state="asked"} 2
ray_recmesh_model_replicas{model="cf",replica="a",state="left_alone"} 0
ray_serve_something_else 7
"""
AFTER = """
ray_recmesh_requests_total{WorkerId="1",method="Recommend",surface="feed",code="OK"} 190
ray_recmesh_requests_total{WorkerId="2",method="Recommend",surface="feed",code="OK"} 50
ray_recmesh_requests_total{WorkerId="9",method="Recommend",surface="feed",code="INTERNAL"} 10
ray_recmesh_requests_total{WorkerId="3",method="Score",surface="",code="OK"} 2900
ray_recmesh_request_duration_seconds_bucket{method="Recommend",surface="feed",le="0.1"} 90
ray_recmesh_request_duration_seconds_bucket{method="Recommend",surface="feed",le="0.2"} 100
ray_recmesh_request_duration_seconds_bucket{method="Recommend",surface="feed",le="+Inf"} 100
ray_recmesh_request_duration_seconds_count{method="Recommend",surface="feed"} 100
ray_recmesh_degraded_pages_total{surface="feed"} 9
ray_recmesh_source_calls_total{source="cf",state="ok"} 160
ray_recmesh_source_calls_total{source="cf",state="timeout"} 41
ray_recmesh_model_replicas{model="cf",replica="a",state="asked"} 2
ray_recmesh_model_replicas{model="cf",replica="b",state="asked"} 1
ray_recmesh_model_replicas{model="cf",replica="a",state="left_alone"} 0
ray_recmesh_model_replicas{model="cf",replica="b",state="left_alone"} 1
ray_recmesh_model_calls_in_flight{model="cf"} 3
ray_recmesh_embedding_version_info{embedding="items",version="minilm-1"} 1
ray_recmesh_embedding_version_info{embedding="old",version="minilm-0"} 0
ray_recmesh_shed_requests_total{priority="batch"} 20
"""


def test_rates_are_what_series_have_grown() -> None:
    rates = mesh_rates(Reading(100.0, parsed(BEFORE)), Reading(110.0, parsed(AFTER)))
    (feed,) = rates.surfaces
    assert feed.per_s == 10
    assert feed.error_share == 0.1
    assert feed.degraded_share == 0.1
    assert feed.p50_ms == pytest.approx(1e3 * 0.1 * 50 / 90)
    assert feed.p99_ms == pytest.approx(190)
    (cf,) = rates.sources
    assert cf.per_s == 10
    assert cf.failed_share == 0.4
    assert (cf.replicas, cf.left_alone, cf.in_flight) == (3, 1, 3)
    assert rates.embedding == ["minilm-1"]
    assert rates.shed_per_s == 2
    assert math.isnan(cf.p99_ms)
    assert rates.as_json()["sources"][0]["p99_ms"] is None
    console = Console(width=120, record=True, quiet=True)
    console.print(_view(rates, []))


def test_a_counter_that_began_anew_has_grown_from_nothing() -> None:
    labels = frozenset({("a", "b")})
    before, now = Reading(0, {"x": {labels: 50.0}}), Reading(1, {"x": {labels: 8.0}})
    assert now.since(before).values == {"x": {labels: 8.0}}


def test_quantiles_are_prometheus_own() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("recmesh_t", "t", buckets=(1, 2, 4), registry=registry)
    for value in (0.5, 1.5, 1.5, 3):
        histogram.observe(value)
    series = parsed(generate_latest(registry).decode())["recmesh_t_bucket"]
    at = sorted((float(dict(labels)["le"]), count) for labels, count in series.items())
    bounds, below = [le for le, _ in at], [count for _, count in at]
    assert quantile(bounds, below, 0.5) == 1.5
    assert quantile(bounds, below, 1.0) == 4
    assert math.isnan(quantile([], [], 0.5))
    assert quantile([1, math.inf], [0, 5], 0.5) == 1


def test_without_a_mesh_it_says_what_to_do(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    outcome = CliRunner().invoke(app, ["top", "--once"])
    assert outcome.exit_code == 1
    assert "recmesh up" in outcome.output
    assert CliRunner().invoke(app, ["top", "--json"]).exit_code == 2
