"""Candidates trained as tasks on Ray are the ones that this process would train."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.ray_cluster import TOKEN_VARIABLES
from tests.small_world import tastes_home


def outcomes(said: str) -> dict[str, Any]:
    models = json.loads(said)["models"]
    return {model["name"]: (model["outcome"], model["candidate"]) for model in models}


def test_the_same_versions_as_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = tastes_home(tmp_path), tmp_path / "other"
    manifest = home / "dataset" / "dataset.json"
    told = json.loads(manifest.read_text())
    del told["files"]["edges"]  # without ties the network model cannot be trained
    manifest.write_text(json.dumps(told))
    shutil.copytree(home, other)
    words = ["retrain", "cf", "network", "--dry-run", "--json"]
    environment = {k: v for k, v in os.environ.items() if k not in TOKEN_VARIABLES}
    on_ray = subprocess.run(
        [sys.executable, "-m", "recmesh.cli.main", *words, "--on-ray"],
        env=environment | {"RECMESH_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert on_ray.stdout, on_ray.stderr
    # Ray's token there is the mesh's, which may run meanwhile.
    assert not (home / "run" / "ray-token").exists()
    monkeypatch.setenv("RECMESH_HOME", str(other))
    here = CliRunner().invoke(app, words)
    assert outcomes(on_ray.stdout) == outcomes(here.stdout)
    found = outcomes(here.stdout)
    assert found["cf"][1]
    assert not found["network"][1]
