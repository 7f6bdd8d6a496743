from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.capacity import LOADS_RPS, MEASURED_MS, needs, read_measured

MS = {"Envoy": 0.5, "models": 4.0, "orchestrator": 3.0, "Ray, supervision": 1.0}


def test_the_formula() -> None:
    found = {need.part: need for need in needs(MS, 1000, models=4, utilisation=0.5)}
    orchestrator = found["orchestrator"]
    # 3 CPUs busy, half of one CPU each, and one that may be lost.
    assert (orchestrator.busy_cpus, orchestrator.replicas, orchestrator.pods) == (3.0, 7, 2)
    models = found["models"]
    # One CPU busy for each of four models.
    assert (models.applications, models.replicas, models.pods) == (4, 3, 3)
    # Two threads: half of two CPUs each.
    assert found["Envoy"].replicas == 2
    assert found["Ray, supervision"].replicas == 0
    assert found["Ray, supervision"].busy_cpus == 1.0


def test_one_writer_takes_what_it_can_and_then_there_are_more_meshes() -> None:
    few, many = (needs({"writer": 2.0}, rps, utilisation=0.5)[0] for rps in (100, 1000))
    assert (few.applications, few.replicas, few.pods) == (1, 1, 1)
    # Two CPUs busy, half of one in each mesh.
    assert (many.applications, many.replicas, many.pods) == (4, 1, 4)


def test_a_little_load_still_needs_one_more_than_one() -> None:
    assert {need.replicas for need in needs(MS, 0.1) if need.replicas} == {2}
    assert {need.pods for need in needs(MS, 0.1) if need.replicas} == {2}


def test_what_make_bench_wrote_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    row = {"arrangement": "separate replicas, through Envoy", "models": "real", "callers": 8}
    other = row | {"callers": 1, "cpu_ms_by_part": {}}
    file.write_text(json.dumps([other, row | {"cpu_ms_by_part": MS}]))
    assert read_measured(file) == MS
    file.write_text("[]")
    with pytest.raises(SystemExit, match="has no row"):
        read_measured(file)


def test_wrong_values_are_said() -> None:
    command = [sys.executable, "-m", "benchmarks.capacity", "--utilisation", "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not in (0, 1]" in done.stderr


def test_the_page_says_what_the_command_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()
    for rps in LOADS_RPS:
        for need in needs(MEASURED_MS, rps):
            if need.replicas:
                each = f"{need.applications} × " if need.applications > 1 else ""
                figures = f"| {need.busy_cpus:,.1f} | {each}{need.replicas:,} | {need.pods:,} |"
                assert f"| {need.part} {figures}" in page
