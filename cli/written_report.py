"""Files that commands write reports to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recmesh.storage.errors import ConfigurationError


def writable(option: str, file: Path | None, suffixes: Sequence[str]) -> None:
    """Makes sure, before long work, that a report can be written; its folder is made.

    Args:
        option: that names the file.
        file: None: not asked for.
        suffixes: that say how it is written.

    Raises:
        ConfigurationError: another suffix, or a place that nothing can be written to.
    """
    if file is None:
        return
    if file.suffix not in suffixes:
        raise ConfigurationError(
            f"{option} {file} ends in {file.suffix!r}; use {' or '.join(suffixes)}"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{option} {file}: no folder can be made there ({error.strerror})"
        ) from error
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise ConfigurationError(f"{option} {file}: no file can be written there")


def write_report(file: Path, text: str) -> None:
    """Writes UTF-8 text; readers find the old file or the whole new one, never a part."""
    pending = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        pending.write_text(text, encoding="utf-8")
        pending.replace(file)
    finally:
        pending.unlink(missing_ok=True)
