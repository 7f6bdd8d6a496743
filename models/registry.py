"""The models of this house. Adding one is a folder and a line here."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import cast

from recmesh.models.declaration import ModelDeclaration
from recmesh.models.model import Load, Train
from recmesh.storage.errors import ConfigurationError, NotFoundError

MODELS: dict[str, str] = {
    "cf": "recmesh.models.cf",
    "behavioral": "recmesh.models.behavioral",
    "nlp": "recmesh.models.nlp",
    "network": "recmesh.models.network",
}
"""Model name to the package with its ``train`` and ``load``."""


def check_known(name: str) -> None:
    """Raises NotFoundError when there is no such model; imports none."""
    if name not in MODELS:
        raise NotFoundError(f"unknown model {name!r}; known: {', '.join(MODELS)}")


def _function(name: str, function: str) -> object:
    check_known(name)
    return getattr(importlib.import_module(MODELS[name]), function)


def code_version(name: str) -> str:
    """A hash of what a model is made of: its folder's code, what all models share, its search."""
    check_known(name)
    folder = Path(str(importlib.import_module(MODELS[name]).__file__)).parent
    digest = hashlib.sha256()
    for file in [*sorted(folder.parent.glob("*.py")), *sorted(folder.rglob("*.py"))]:
        digest.update(str(file.relative_to(folder.parent)).encode())
        digest.update(file.read_bytes())
    search = declaration(name).search
    if search.trials:
        digest.update(search.model_dump_json().encode())
    return digest.hexdigest()[:16]


def declaration(name: str) -> ModelDeclaration:
    """What the owner declares of a model, read without importing it: that may take seconds.

    Raises:
        NotFoundError: there is no such model.
        ConfigurationError: its ``model.toml`` is missing or breaks a rule.
    """
    check_known(name)
    found = importlib.util.find_spec(MODELS[name])
    if found is None or found.origin is None:
        raise ConfigurationError(f"model {name}: there is no package {MODELS[name]}")
    return ModelDeclaration.load(Path(found.origin).parent)


def trainer(name: str) -> Train:
    """``train(dataset, options) -> TrainedModel`` of a model."""
    return cast(Train, _function(name, "train"))


def loader(name: str) -> Load:
    """``load(artifact) -> Model`` of a model."""
    return cast(Load, _function(name, "load"))
