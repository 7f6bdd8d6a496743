"""Whether a mesh runs is its lock's word, not a process id's."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.mesh_record import MeshRecord, holder, only_mesh, recorded, running_mesh
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def record(pid: int) -> MeshRecord:
    return MeshRecord(pid, "127.0.0.1:1", "127.0.0.1:2", "", "mesh.toml")


def test_a_mesh_is_there_while_its_holder_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert holder(home) is None
    with only_mesh(home):
        assert (holder(home), running_mesh(home)) == (os.getpid(), None)
        with recorded(home, record(os.getpid())):
            running = running_mesh(home)
            assert running is not None
            assert running.address == "127.0.0.1:1"
        with pytest.raises(ConfigurationError, match="recmesh down"), only_mesh(home):
            pass
    assert holder(home) is None
    assert running_mesh(home) is None


def test_a_stranger_with_the_holders_old_process_id_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    with only_mesh(home):
        pass
    # As a kill -9 leaves it; this process would not survive being stopped.
    home.run.joinpath("mesh.json").write_text(json.dumps(asdict(record(os.getpid()))))
    assert running_mesh(home) is None
    done = CliRunner().invoke(app, ["down"])
    assert (done.exit_code, done.stdout) == (0, "no mesh runs here\n")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write to"), only_mesh(Home(tmp_path)):
        pass
