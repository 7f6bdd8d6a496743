"""From a version back to data, code and parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recmesh.cli.lineage import Lineage
from recmesh.cli.main import app
from recmesh.models.registry import code_version
from recmesh.storage.artifacts import ArtifactStore
from recmesh.v1 import common_pb2, recommendation_pb2
from tests.small_world import ingested_home, train


def lineage(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["lineage", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_version_tells_data_code_and_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ingested_home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    first, second = train(home, "cf", seed=1), train(home, "cf", seed=2)
    (told,) = lineage("cf")
    assert (told["version"], told["live"], told["seed"]) == (second, True, 2)
    assert told["dataset_version"] == "small"
    assert told["parameters"] == ArtifactStore(home.artifacts).card("cf", second).parameters
    assert set(told["tables"]) == {"items", "users", "events", "edges"}
    assert told["code_version"] in ("", code_version("cf"))
    (older,) = lineage(f"cf@{first[:6]}")
    assert (older["version"], older["live"]) == (first, False)


def test_what_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = ingested_home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    version = train(home, "cf")
    manifest = home.dataset / "dataset.json"
    manifest.write_text(manifest.read_text().replace('"small"', '"newer"'))
    (told,) = lineage(f"cf@{version}")
    assert told["tables"] == "not kept any more"
    done = CliRunner().invoke(app, ["lineage", "nobody"])
    assert done.exit_code == 1
    assert "nothing is recorded yet" in done.output


def test_a_page_tells_all_that_made_it(tmp_path: Path) -> None:
    home = ingested_home(tmp_path)
    version = train(home, "cf")
    answer = recommendation_pb2.RecommendResponse(
        request_id="r",
        sources=[
            common_pb2.SourceStatus(name="cf", version=version),
            common_pb2.SourceStatus(name="cf", version="gone"),
            common_pb2.SourceStatus(name="popular", version="small"),
            common_pb2.SourceStatus(name="network"),
        ],
    )
    answer.versions.policy = "default-1"
    answer.versions.experiment_arms["test"] = "new"
    told = Lineage(home).page(answer)
    assert [model["version"] for model in told["models"]] == [version, "gone"]
    assert told["models"][1]["card"] == "not kept any more"
    assert told["others"] == {"popular": "small"}
    assert told["experiment_arms"] == {"test": "new"}
    assert told["policy"]["version"] == "default-1"
