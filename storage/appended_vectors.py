"""Vectors of items that came or changed after training: small files that readers follow.

::

    <folder>/<embedding version>/<last change, 20 digits>.safetensors

One process appends files, for one collection of the embedding version or for several; a later
file's vector of an item replaces earlier ones. A reader takes the files it has not read.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recmesh.storage.errors import ArtifactError

Float32 = npt.NDArray[np.float32]

SUFFIX = ".safetensors"
MOST_FILES = 64
"""More are joined into one."""
_APPENDING = threading.Lock()


def _folder(folder: Path, embedding_version: str) -> Path:
    return folder / re.sub(r"[^\w.-]", "_", embedding_version)


def _read(file: Path) -> dict[str, Float32]:
    try:
        stored = load_file(file)
        ids: list[str] = json.loads(stored["item_ids"].tobytes())
        return dict(zip(ids, stored["vectors"], strict=True))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{file} is damaged ({error}); delete it and index again") from error


def _write(file: Path, item_ids: Sequence[str], vectors: Float32) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_suffix(f".{os.getpid()}")
    packed = np.frombuffer(json.dumps(list(item_ids)).encode(), np.uint8)
    save_file({"item_ids": packed, "vectors": np.ascontiguousarray(vectors)}, pending)
    pending.replace(file)


def append_vectors(
    folder: Path, embedding_version: str, seq: int, vectors: Mapping[str, Float32]
) -> None:
    """Adds vectors by item id, after those of earlier changes. ``seq`` is the last change."""
    if not vectors:
        return
    into = _folder(folder, embedding_version)
    with _APPENDING:
        file = into / f"{seq:020d}{SUFFIX}"
        # Another collection may have come to the same change from another one.
        joined = (_read(file) if file.is_file() else {}) | dict(vectors)
        _write(file, list(joined), np.stack(list(joined.values())))
        files = sorted(into.glob(f"*{SUFFIX}"))
        if len(files) > MOST_FILES:
            joined = {}
            for file in files:
                joined.update(_read(file))
            # The last one keeps its name: what is appended later still sorts after it.
            _write(files[-1], list(joined), np.stack(list(joined.values())))
            for file in files[:-1]:
                file.unlink()


class AppendedVectors:
    """Follows the files of one embedding version."""

    def __init__(self, folder: Path, embedding_version: str) -> None:
        self._folder = _folder(folder, embedding_version)
        self._read: set[tuple[str, int, int]] = set()
        """Name, moment and inode of every file that was read."""

    def news(self) -> dict[str, Float32]:
        """Vectors appended since this was last asked, by item id.

        Raises:
            ArtifactError: a file is damaged.
        """
        found: dict[str, Float32] = {}
        try:
            files = sorted(file for file in self._folder.iterdir() if file.suffix == SUFFIX)
        except FileNotFoundError:
            return found
        read = set()
        for file in files:
            try:
                stat = file.stat()
                stamp = file.name, stat.st_mtime_ns, stat.st_ino
                if stamp not in self._read:
                    found.update(_read(file))
            except FileNotFoundError:
                # Joined into a later one, which the next look finds.
                return found
            read.add(stamp)
        self._read = read
        return found
