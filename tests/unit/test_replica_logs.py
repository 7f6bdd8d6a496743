from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.deployments.replica_logs import read_logs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "serve").mkdir()
    for name, text in {
        "serve/replica_model-cf_cf_aaa.log": "one\ntwo\nhal",
        "serve/replica_model-cf@trial_cf@trial_bbb.log": "tried\n",
        "serve/replica_model-cf-two_cf-two_ccc.log": "another model's\n",
        "serve/controller_1.log": "not a replica's\n",
        "worker-01ab-01000000-77.out": ":job_id:01\n:actor_name:ServeReplica:model-cf:cf\nsaid\n",
        "worker-02ab-01000000-78.err": ":job_id:01\n:actor_name:ServeReplica:model-cf-two:x\nno\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_models_replicas_are_read_and_no_others(folder: Path) -> None:
    found = read_logs(folder, "cf", {})
    assert {(who, text) for who, text, _ in found.values()} == {
        ("aaa", "one\ntwo\n"),
        ("trial bbb", "tried\n"),
        ("process 77", "said\n"),
    }


def test_what_was_read_is_not_read_again_and_half_a_line_waits(folder: Path) -> None:
    read = {name: end for name, (_, _, end) in read_logs(folder, "cf", {}).items()}
    assert read_logs(folder, "cf", read) == {}
    with (folder / "serve/replica_model-cf_cf_aaa.log").open("a") as log:
        log.write("f\n")
    (told,) = read_logs(folder, "cf", read).values()
    assert told[:2] == ("aaa", "half\n")
