"""A model's folder: what its owner declares, how it is trained, and how it is loaded."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recmesh.models.declaration import FILE, ModelDeclaration
from recmesh.models.model import Load, Train
from recmesh.models.registry import check_known, declaration, loader, trainer
from recmesh.storage.errors import ConfigurationError


@dataclass(frozen=True)
class ModelFolder:
    """What a model's owner wrote."""

    declaration: ModelDeclaration
    train: Train
    load: Load

    @property
    def name(self) -> str:
        """The model's."""
        return self.declaration.name

    @classmethod
    def of(cls, target: str) -> ModelFolder:
        """By a name of the registry, or by its folder or project's folder, installed or not.

        Raises:
            NotFoundError: neither a known model nor a folder.
            ConfigurationError: the folder has no ``model.toml``, ``train`` or ``load``, cannot be
                imported, or ``model.toml`` breaks a rule.
        """
        folder = Path(target)
        if not folder.is_dir():
            check_known(target)
            return cls(declaration(target), trainer(target), loader(target))
        folder = folder.resolve()
        declared = [file for file in (folder / FILE, *folder.glob(f"*/{FILE}")) if file.is_file()]
        if len(declared) != 1:
            raise ConfigurationError(
                f"{folder} holds {len(declared)} files {FILE}; a model's folder, or its project's, "
                f"holds one"
            )
        folder = declared[0].parent
        package = _imported(folder)
        try:
            return cls(ModelDeclaration.load(folder), package.train, package.load)
        except AttributeError as error:
            raise ConfigurationError(
                f"{folder}/__init__.py must offer train and load: {error}"
            ) from error


def _imported(folder: Path) -> Any:
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    try:
        package = importlib.import_module(folder.name)
    except Exception as error:
        raise ConfigurationError(
            f"{folder} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if package.__file__ is None or Path(package.__file__).resolve().parent != folder:
        raise ConfigurationError(
            f"importing {folder.name} gives {package.__file__}, not {folder}; rename the folder, "
            f"and give it an __init__.py"
        )
    return package
