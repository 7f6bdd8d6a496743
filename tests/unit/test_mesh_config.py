from pathlib import Path

import pytest

from recmesh.deployments.mesh_config import MeshConfig
from recmesh.models.registry import MODELS
from recmesh.storage.errors import ConfigurationError


def load(tmp_path: Path, text: str) -> MeshConfig:
    file = tmp_path / "mesh.toml"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    return MeshConfig.load(file)


def test_the_packaged_file_runs_every_model() -> None:
    config = MeshConfig.load()
    assert set(config.models) == set(MODELS)
    assert config.edge.address == "127.0.0.1:50051"


def test_the_environment_overrides_one_value_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECMESH_MODELS__CF__MAX_REPLICAS", "7")
    config = load(tmp_path, "[models.cf]\nmin_replicas = 2\nmax_replicas = 3\n")
    assert (config.models["cf"].min_replicas, config.models["cf"].max_replicas) == (2, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models.cf]\nmin_replicas = 3\nmax_replicas = 2", "min_replicas 3 is above"),
        ("[models.dreams]", "models.dreams: not in"),
        ('[models.x]\nplacement = "external"', "addresses go with"),
        ('[models.cf]\naddresses = ["a:1"]', "addresses go with"),
        ('[models.x]\nplacement = "external"\naddresses = ["nowhere"]', "models.x.addresses.0"),
        ("[models.cf]\nreplicas = 1", "models.cf.replicas"),
        ("[edge]\nport = 1", "edge.port"),
        ('[database]\nuri = "mysql://host/db"', "database.uri"),
        ("[models.CF]", "models.CF"),
        ("nonsense", "is not TOML"),
        ("\udcff", "is not TOML"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace(".", r"\.")):
        load(tmp_path, text)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECMESH_EGDE__ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="there is no table egde"):
        load(tmp_path, "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        MeshConfig.load(tmp_path / "nowhere.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        MeshConfig.load(tmp_path)


def test_a_list_that_is_not_json_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECMESH_MODELS__CF__ADDRESSES", "a:1")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        load(tmp_path, "")


def test_a_policy_is_found_from_its_file_wherever_the_command_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/")
    config = load(tmp_path, '[orchestrator]\npolicy = "policies/mine.toml"')
    assert config.orchestrator.policy_file == tmp_path / "policies" / "mine.toml"
