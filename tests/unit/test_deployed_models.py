from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.deployments.deployed_models import DeployedModel, DeployedModels, OwnReplicas
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.file_lock import file_lock

replicas = st.builds(
    OwnReplicas,
    min_replicas=st.none() | st.integers(1, 9),
    max_replicas=st.none() | st.integers(9, 99),
    num_cpus=st.none() | st.floats(0.1, 8),
    num_gpus=st.none() | st.floats(0, 2),
    pip=st.none() | st.tuples(st.text(st.characters(codec="ascii", exclude_categories=["C"]))),
)


@given(replicas)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, own: OwnReplicas
) -> None:
    models = DeployedModels(tmp_path_factory.mktemp("home") / "deployed")
    written = DeployedModel(name="cf", version="v1", replicas=own, by="ann", at="2026-01-01")
    models.write(written)
    assert models.get("cf") == written
    assert models.all() == {"cf": written}
    assert [file.name for file in models.folder.iterdir()] == ["cf.toml"]
    assert models.remove("cf")
    assert not models.remove("cf")
    assert models.get("cf") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "CF"', "name: String should match"),
        ('name = "cf"\n[replicas]\nmin_replicas = 0', "replicas.min_replicas"),
        ('name = "cf"\nreplicas = 3', "replicas"),
        ('name = "cf"\nowner = "me"', "owner: Extra inputs"),
        ("nonsense", "is not TOML"),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "cf.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        DeployedModel.load(tmp_path / "cf.toml")


def test_one_damaged_file_keeps_no_other_model_from_running(tmp_path: Path) -> None:
    models = DeployedModels(tmp_path)
    models.write(DeployedModel(name="cf"))
    (tmp_path / "network.toml").write_text("nonsense")
    assert set(models.all()) == {"cf"}


def test_two_who_change_one_model_take_turns_and_two_models_do_not(tmp_path: Path) -> None:
    models = DeployedModels(tmp_path)
    said: list[str] = []
    waits, ended = threading.Event(), threading.Event()

    def waiting(holder: str) -> None:
        said.append(holder)
        waits.set()

    def second() -> None:
        with models.turn("cf", waiting):
            ended.set()

    with models.turn("cf"), models.turn("network"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        assert not ended.is_set()
    thread.join(10)
    assert ended.is_set()
    assert "changes the deployment of cf" in said[0]


def test_who_waits_too_long_is_told_for_whom(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with (
        file_lock(file, wait_s=0, said="works"),
        pytest.raises(ConfigurationError, match=r"process .* works"),
        file_lock(file, wait_s=0, said="works"),
    ):
        raise AssertionError
