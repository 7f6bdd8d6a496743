"""Naming a model by its name or by its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.models.folder import model_named
from recmesh.models.registry import folder_of
from recmesh.storage.errors import ConfigurationError, NotFoundError

HOUSE = Path(__file__).parents[2] / "models"
DECLARED = 'name = "{}"\nowner = "me"\ncontact = "#me"\nsummary = "what it does"\n'


@pytest.mark.parametrize("target", ["cf", str(HOUSE / "cf")])
def test_a_name_and_its_folder_are_one_model(target: str) -> None:
    assert model_named(target) == "cf"
    assert folder_of("cf") == (HOUSE / "cf").resolve()


def test_neither_a_name_nor_a_folder() -> None:
    with pytest.raises(NotFoundError, match="unknown model 'nowhere/dreams'"):
        model_named("nowhere/dreams")


def test_a_folder_that_holds_many_models_is_no_model() -> None:
    with pytest.raises(ConfigurationError, match=r"holds 4 files model\.toml"):
        model_named(str(HOUSE))


@pytest.mark.parametrize(
    ("name", "said"),
    [("dreams", "pip install --editable"), ("cf", "model cf is the one of .*models/cf here")],
)
def test_a_folder_whose_model_would_not_run_is_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.toml").write_text(DECLARED.format(name))
    with pytest.raises(ConfigurationError, match=said):
        model_named(str(tmp_path))
