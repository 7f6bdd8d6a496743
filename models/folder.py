"""Which model a person means who names it, or points at its folder."""

from __future__ import annotations

from pathlib import Path

from recmesh.models.declaration import FILE, ModelDeclaration
from recmesh.models.registry import check_known, folder_of, known_models
from recmesh.storage.errors import ConfigurationError, NotFoundError


def model_named(target: str) -> str:
    """The name of the model that ``target`` names, or whose folder or project folder it is.

    Raises:
        NotFoundError: there is no such model, and no such folder.
        ConfigurationError: the folder is no model's, or what would run is another folder's model.
    """
    folder = Path(target)
    if target in known_models() or not folder.is_dir():
        check_known(target)
        return target
    declared = [
        file.parent for file in (folder / FILE, *folder.glob(f"*/{FILE}")) if file.is_file()
    ]
    if len(declared) != 1:
        raise ConfigurationError(
            f"{folder} holds {len(declared)} files {FILE}, and a model's folder, or its project's, "
            f"holds one"
        )
    name = ModelDeclaration.load(declared[0]).name
    try:
        runs = folder_of(name)
    except NotFoundError as error:
        raise ConfigurationError(
            f"model {name} of {folder} is not known here: pip install --editable {folder}, or add "
            f"its line to models/registry.py"
        ) from error
    if runs != declared[0].resolve():
        raise ConfigurationError(
            f"model {name} is the one of {runs} here, not that of {declared[0]}: install yours, "
            f"or rename it"
        )
    return name
