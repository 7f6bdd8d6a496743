"""What owners declare of their models."""

from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.models.declaration import ModelDeclaration
from recmesh.models.registry import MODELS
from recmesh.storage.errors import ConfigurationError

FOLDERS = Path(__file__).parents[2] / "models"
LEAST = 'name = "ease"\nowner = "me"\ncontact = "#me"\nsummary = "what it does"\n'


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_house_is_declared(name: str) -> None:
    assert ModelDeclaration.load(FOLDERS / name).name == name


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("budget = 3", "budget: Extra inputs are not permitted (is 3)"),
        ("[replicas]\nmin_replicas = 3\nmax_replicas = 2", "min_replicas 3 is above max_replicas"),
        ("[blend]\nfeed = 1.5", "blend.feed: Input should be less than 1 (is 1.5)"),
        ("[service]\nbudget_ms = 0", "service.budget_ms"),
        ("name", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, added: str, said: str) -> None:
    (tmp_path / "model.toml").write_text(f"{LEAST}{added}\n")
    with pytest.raises(ConfigurationError) as error:
        ModelDeclaration.load(tmp_path)
    assert said in str(error.value)
    assert "model.toml" in str(error.value)


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        ModelDeclaration.load(tmp_path)
