"""Who is to speak TLS with Ray finds out from the home folder, before it imports Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recmesh.deployments import ray_tls
from recmesh.deployments.mesh_record import MeshRecord, only_mesh, recorded
from recmesh.deployments.ray_cluster import join_cluster
from recmesh.deployments.ray_tls import joining_variables, start_again_with, tls_variables
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home

OWN = MeshRecord(
    os.getpid(), "127.0.0.1:1", "127.0.0.1:2", "", "mesh.toml", secure=True, own_cluster=True
)


def test_only_a_secure_mesh_on_a_cluster_of_its_own_is_joined_in_tls(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert joining_variables(home) == {}
    with only_mesh(home):
        for mesh in (replace(OWN, secure=False), replace(OWN, own_cluster=False)):
            with recorded(home, mesh):
                assert joining_variables(home) == {}
        with recorded(home, OWN):
            assert joining_variables(home) == tls_variables(home)
            assert tls_variables(home)["RAY_USE_TLS"] == "1"


def test_a_command_sets_them_before_ray_is_imported(tmp_path: Path) -> None:
    home = Home(tmp_path)
    program = (
        "import sys, recmesh.deployments; assert 'ray' not in sys.modules;"
        "import os; print(os.environ.get('RAY_TLS_CA_CERT', ''))"
    )

    def told() -> str:
        environment = {**os.environ, "RECMESH_HOME": str(tmp_path)}
        command = [sys.executable, "-c", program]
        return subprocess.check_output(command, env=environment, text=True).strip()

    with only_mesh(home), recorded(home, OWN):
        assert told() == str(home.credentials / "ray.pem")
    assert told() == ""


def test_who_imported_ray_without_them_is_told_so_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with (
        only_mesh(home),
        recorded(home, OWN),
        pytest.raises(UnavailableError, match="speaks TLS"),
    ):
        join_cluster(home, OWN.ray_address)


def test_a_process_starts_itself_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(ray_tls.os, "execve", lambda *how: started.append(how))
    start_again_with({})
    assert not started
    start_again_with({"RAY_USE_TLS": "1"})
    [(program, command, environment)] = started
    assert (program, command) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
    assert environment == {**os.environ, "RAY_USE_TLS": "1"}
    monkeypatch.setenv("RAY_USE_TLS", "1")
    start_again_with({"RAY_USE_TLS": "1"})
    assert len(started) == 1
