"""Vectors of texts already embedded, kept between trainings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp.encoder import Encoder


def _keys(texts: Sequence[str]) -> list[bytes]:
    return [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]


def encode_cached(
    encoder: Encoder, texts: Sequence[str], folder: Path | None, progress: Progress = silent
) -> Float32:
    """Unit vectors ``[len(texts), dim]``; only texts that ``folder`` does not know are embedded.

    The cache is one file an encoder version, so vectors of two encoders never mix. A
    damaged file is replaced.
    """
    if folder is None:
        return encoder.encode(texts, progress)
    file = folder / f"{encoder.version}.safetensors"
    known: dict[bytes, Float32] = {}
    if file.is_file():
        try:
            stored = load_file(file)
            known = dict(
                zip((row.tobytes() for row in stored["keys"]), stored["vectors"], strict=True)
            )
        except (SafetensorError, KeyError, ValueError):
            known = {}
    keys = _keys(texts)
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if new:
        fresh = encoder.encode(list(new.values()), progress)
        known.update(zip(new, fresh, strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        pending = file.with_suffix(f".{os.getpid()}")
        save_file(
            {
                "keys": np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16),
                "vectors": np.stack(list(known.values())),
            },
            pending,
        )
        pending.replace(file)
    progress(len(texts), len(texts), "texts embedded")
    return np.stack([known[key] for key in keys]) if keys else encoder.encode([])
