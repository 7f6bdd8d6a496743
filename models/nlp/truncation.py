"""Shorter vectors of the same encoder: its first dimensions, at unit length again.

Encoders that were trained for it lose little (Kusupati et al. 2022, Matryoshka representation
learning); what others lose, verification and evaluation show.
"""

from __future__ import annotations

import numpy as np

from recmesh.models.model import Float32
from recmesh.storage.errors import InvalidRequestError


def dimensions(wanted: int, full: int) -> int:
    """How many of ``full`` dimensions to keep; 0: all.

    Raises:
        InvalidRequestError: an encoder does not have so many.
    """
    if not 0 <= wanted <= full:
        raise InvalidRequestError("dim", f"is {wanted}; the encoder has {full} (0: all of them)")
    return 0 if wanted == full else wanted


def space(encoder_version: str, dim: int) -> str:
    """Names the space of an encoder's first ``dim`` dimensions; 0: all."""
    return f"{encoder_version}-d{dim}" if dim else encoder_version


def truncated(vectors: Float32, dim: int) -> Float32:
    """The first ``dim`` dimensions of ``[n, full]``, at unit length; 0: the vectors as they are."""
    if not dim:
        return vectors
    kept = vectors[:, :dim]
    shorter: Float32 = kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)
    return shorter.astype(np.float32)
