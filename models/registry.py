"""The models of this house. Adding one is a folder and a line here."""

from __future__ import annotations

import importlib
from typing import cast

from recmesh.models.model import Load, Train
from recmesh.storage.errors import NotFoundError

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


def trainer(name: str) -> Train:
    """``train(dataset, options) -> TrainedModel`` of a model."""
    return cast(Train, _function(name, "train"))


def loader(name: str) -> Load:
    """``load(artifact) -> Model`` of a model."""
    return cast(Load, _function(name, "load"))
