"""Vectors of texts already embedded, kept between trainings.

::

    <encoder version>.safetensors           everything, once there are many parts
    <encoder version>.<hash>.safetensors    a part, written as soon as it is embedded

Whoever is stopped, even by a kill, goes on where they were.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp.encoder import Encoder

PART = 256
"""Texts embedded between two writes: some ten seconds' work."""
MOST_PARTS = 64
"""More are joined into one."""

EmbedParts = Callable[[Sequence[Sequence[str]]], Iterator[tuple[int, Float32]]]
"""Embeds parts of texts, in any order: yields each part's number and its vectors
``[len(part), dim]``, once."""


def _keys(texts: Sequence[str]) -> list[bytes]:
    return [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]


def _files(folder: Path, version: str) -> list[Path]:
    version = glob.escape(version)
    names = (f"{version}.safetensors", f"{version}.*.safetensors")
    return sorted(file for name in names for file in folder.glob(name))


def _known(files: Sequence[Path]) -> dict[bytes, Float32]:
    """Vectors by key. A file that is damaged, or was joined into another meanwhile, is none."""
    known: dict[bytes, Float32] = {}
    for file in files:
        try:
            stored = load_file(file)
            keys = (row.tobytes() for row in stored["keys"])
            known.update(zip(keys, stored["vectors"], strict=True))
        except (FileNotFoundError, SafetensorError, KeyError, ValueError):
            continue
    return known


def _write(file: Path, vectors: Mapping[bytes, Float32]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_name(f"{file.name}.{os.getpid()}")
    keys = np.frombuffer(b"".join(vectors), np.uint8).reshape(-1, 16)
    save_file({"keys": keys, "vectors": np.stack(list(vectors.values()))}, pending)
    pending.replace(file)


def encode_cached(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path | None,
    progress: Progress = silent,
    embed_parts: EmbedParts | None = None,
) -> Float32:
    """Unit vectors ``[len(texts), dim]``; only texts that ``folder`` does not know are embedded.

    Vectors of two encoder versions never mix. ``embed_parts`` does the work in place of
    ``encoder``, with the same weights; only this process writes.
    """
    if folder is None:
        return encoder.encode(texts, progress)
    files = _files(folder, encoder.version)
    known = _known(files)
    keys = _keys(texts)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    # Texts of like length share a batch, so little is spent on padding.
    new = sorted(missing.items(), key=lambda pair: len(pair[1]))
    parts = [dict(new[start : start + PART]) for start in range(0, len(new), PART)]
    done = 0

    def one_by_one(of: Sequence[Sequence[str]]) -> Iterator[tuple[int, Float32]]:
        yield from ((number, encoder.encode(part)) for number, part in enumerate(of))

    embed = embed_parts or one_by_one
    for number, vectors in embed([list(part.values()) for part in parts]) if parts else ():
        part = parts[number]
        made = dict(zip(part, vectors, strict=True))
        name = hashlib.blake2b(b"".join(part), digest_size=8).hexdigest()
        files.append(folder / f"{encoder.version}.{name}.safetensors")
        _write(files[-1], made)
        known.update(made)
        done += len(part)
        progress(done, len(new), "texts embedded")
    if len(files) > MOST_PARTS:
        whole = folder / f"{encoder.version}.safetensors"
        _write(whole, known)
        for file in files:
            if file != whole:
                file.unlink(missing_ok=True)
    progress(len(texts), len(texts), "texts embedded")
    return np.stack([known[key] for key in keys]) if keys else encoder.encode([])
