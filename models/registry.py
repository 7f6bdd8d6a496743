"""The models that can run here: this house's, and those of installed packages.

Adding one of ours is a folder and a line here. One that lives in a project of its own names
itself there, in ``pyproject.toml``, and is known once it is installed::

    [project.entry-points."recmesh.models"]
    my-model = "my_model"
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import cast

from recmesh.models.declaration import FILE, ModelDeclaration
from recmesh.models.model import Load, Train
from recmesh.storage.errors import ConfigurationError, NotFoundError

MODELS: dict[str, str] = {
    "cf": "recmesh.models.cf",
    "behavioral": "recmesh.models.behavioral",
    "nlp": "recmesh.models.nlp",
    "network": "recmesh.models.network",
}
"""This house's models: name to the package with its ``train`` and ``load``. Whoever asks what can
run here asks :func:`known_models`."""

GROUP = "recmesh.models"
"""Entry point group in which installed packages name their models."""
KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MADE_OF_NO_MODEL = ("registry.py", "declaration.py")
"""Neither trains nor serves: another model's line here makes no model a different one."""


@cache
def known_models() -> Mapping[str, str]:
    """Model name to package: ours first, then installed ones by name. Imports none of them.

    Raises:
        ConfigurationError: an installed package names a model as another one is named, or against
            the rule for names.
    """
    known = dict(MODELS)
    whose = dict.fromkeys(MODELS, "this release")
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
        distribution = point.dist.name if point.dist else point.module
        if not KEBAB_CASE.fullmatch(point.name):
            raise ConfigurationError(
                f"{distribution} offers a model {point.name!r}: names are lower-case words joined "
                f"by dashes; rename the entry point in its group {GROUP}"
            )
        if point.name in known:
            raise ConfigurationError(
                f"model {point.name} is offered by {whose[point.name]} and by {distribution}: "
                f"rename one, or pip uninstall {distribution}"
            )
        known[point.name] = point.module
        whose[point.name] = distribution
    return MappingProxyType(known)


def check_known(name: str) -> None:
    """Raises NotFoundError when there is no such model; imports none."""
    if name not in known_models():
        raise NotFoundError(f"unknown model {name!r}; known: {', '.join(known_models())}")


def _function(name: str, function: str) -> object:
    check_known(name)
    return getattr(importlib.import_module(known_models()[name]), function)


def code_version(name: str) -> str:
    """A hash of what a model is made of: its folder's code, what all models share, its search."""
    check_known(name)
    own = Path(str(importlib.import_module(known_models()[name]).__file__))
    shared = Path(__file__).parent
    # A model may be one file, whose folder is everybody's.
    files = own.parent.rglob("*.py") if own.name == "__init__.py" else [own]
    made_of = [(file, shared) for file in sorted(shared.glob("*.py"))]
    made_of += [(file, own.parent.parent) for file in sorted(files)]
    digest = hashlib.sha256()
    for file, root in made_of:
        if root != shared or file.name not in MADE_OF_NO_MODEL:
            digest.update(str(file.relative_to(root)).encode())
            digest.update(file.read_bytes())
    declared = ModelDeclaration.load(own.parent).search if (own.parent / FILE).is_file() else None
    if declared is not None and declared.trials:
        digest.update(declared.model_dump_json().encode())
    return digest.hexdigest()[:16]


def folder_of(name: str) -> Path:
    """The folder of a model's package, found without importing it: that may take seconds.

    Raises:
        NotFoundError: there is no such model.
        ConfigurationError: its package cannot be found.
    """
    check_known(name)
    package = known_models()[name]
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise ConfigurationError(f"model {name}: there is no package {package}; install it again")
    return Path(found.origin).parent.resolve()


def declaration(name: str) -> ModelDeclaration:
    """What the owner declares of a model; its package is not imported.

    Raises:
        NotFoundError: there is no such model.
        ConfigurationError: its ``model.toml`` is missing or breaks a rule.
    """
    return ModelDeclaration.load(folder_of(name))


def trainer(name: str) -> Train:
    """``train(dataset, options) -> TrainedModel`` of a model."""
    return cast(Train, _function(name, "train"))


def loader(name: str) -> Load:
    """``load(artifact) -> Model`` of a model."""
    return cast(Load, _function(name, "load"))
