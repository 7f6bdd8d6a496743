"""A TOML file as a frozen model."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from recmesh.storage.errors import ConfigurationError

Read = TypeVar("Read", bound=BaseModel)


def read_toml(kind: type[Read], file: Path) -> Read:
    """Reads a file.

    Raises:
        ConfigurationError: says which value breaks which rule.
    """
    try:
        return kind(**tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    except ValidationError as error:
        broken = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (is {problem['input']!r})"
            for problem in error.errors()
        )
        raise ConfigurationError(f"{file}: {broken}") from error
