"""Which models are known: this house's, and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recmesh.deployments.mesh_config import MeshConfig
from recmesh.models.registry import MODELS, check_known, code_version, known_models, loader
from recmesh.storage.errors import ConfigurationError, NotFoundError

Install = Callable[[str, str, str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution that offers a model in a package; returns the package's folder."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(distribution: str, model: str, package: str) -> Path:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("def load(artifact): return artifact\n")
        words = {"name": model, "owner": "they", "contact": "#they", "summary": "theirs"}
        declared = "".join(f'{key} = "{value}"\n' for key, value in words.items())
        (folder / "model.toml").write_text(declared)
        record = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\n")
        (record / "entry_points.txt").write_text(f"[recmesh.models]\n{model} = {package}\n")
        known_models.cache_clear()
        return folder

    yield installed
    for package in list(sys.modules):
        if package.startswith("installed_"):
            del sys.modules[package]
    known_models.cache_clear()


def test_the_house_knows_its_own() -> None:
    assert dict(known_models()) == MODELS
    with pytest.raises(NotFoundError, match="known: cf"):
        check_known("dreams")


def test_an_installed_model_is_one_of_them(install: Install) -> None:
    install("their-models", "their-model", "installed_theirs")
    assert list(known_models()) == [*MODELS, "their-model"]
    assert "installed_theirs" not in sys.modules, "asking what there is imports nothing"
    assert loader("their-model").__module__ == "installed_theirs"


def test_an_installed_model_may_be_configured(install: Install, tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    file.write_text("[models.their-model]\n")
    with pytest.raises(ConfigurationError, match="nor in an installed package"):
        MeshConfig.load(file)
    install("their-models", "their-model", "installed_theirs")
    assert set(MeshConfig.load(file).models) == {"their-model"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("cf", "model cf is offered by this release and by other-models"),
        ("their-model", "model their-model is offered by .*-models and by .*-models"),
        ("Their_Model", "other-models offers a model 'Their_Model': names are lower-case"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(install: Install, model: str, said: str) -> None:
    install("their-models", "their-model", "installed_theirs")
    install("other-models", model, "installed_others")
    with pytest.raises(ConfigurationError, match=said):
        known_models()


def test_a_model_is_other_code_when_its_own_file_is(install: Install) -> None:
    folder = install("their-models", "their-model", "installed_theirs")
    before = code_version("their-model"), code_version("cf")
    (folder.parent / "elsewhere.py").write_text("1\n")
    assert (code_version("their-model"), code_version("cf")) == before
    (folder / "deep").mkdir()
    (folder / "deep" / "more.py").write_text("1\n")
    assert code_version("their-model") != before[0]
    assert code_version("cf") == before[1]
