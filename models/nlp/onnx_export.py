"""Quantises a torch encoder: int8 weights and int8 products in ONNX Runtime.

Weights are quantised once, a scale for each output channel; activations as they come, a scale
for each tensor (dynamic quantisation, Jacob et al. 2018). One scale for a whole matrix is not
enough: it turned vectors of all-MiniLM-L6-v2 by a cosine of 0.95.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recmesh.models.model import Progress, silent
from recmesh.models.nlp.encoder import MAX_TOKENS, ONNX_FILE, Encoder, Weights
from recmesh.models.nlp.torch_backend import TorchBackend
from recmesh.storage.errors import ConfigurationError

LEAST_MEAN_COSINE = 0.98
"""To the vectors before; a graph that was exported wrong is far below."""
EXTRA = ("onnx", "onnxscript")


@dataclass(frozen=True, slots=True)
class Exported:
    """A quantised encoder, and how like the one before it is."""

    weights: Weights
    mean_cosine: float
    lowest_cosine: float
    texts: int


class _States(torch.nn.Module):
    """A Hugging Face model with one output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Last hidden states ``[n, tokens, dim]``."""
        states: Tensor = self._model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return states


def check_exportable(weights: Weights) -> None:
    """Says before the work what is missing.

    Raises:
        ConfigurationError: the encoder is ONNX already, or the extra is not installed.
    """
    if weights.file.suffix == ".onnx":
        raise ConfigurationError(f"{weights.name} is ONNX already; name an encoder in torch")
    for package in EXTRA:
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(f"{package} is missing; run: pip install 'recmesh[export]'")


def export(
    weights: Weights, folder: Path, name: str, texts: Sequence[str], progress: Progress = silent
) -> Exported:
    """Writes ``model.onnx`` and ``tokenizer.json`` and compares the vectors of ``texts``.

    Args:
        weights: of an encoder in torch.
        folder: to write into; it is made.
        name: of the quantised encoder.
        texts: at least one.
        progress: told of steps and of texts compared.

    Raises:
        ConfigurationError: see :func:`check_exportable`.
        ConfigurationError: the mean cosine is below :data:`LEAST_MEAN_COSINE`.
    """
    check_exportable(weights)
    folder.mkdir(parents=True, exist_ok=True)
    progress(0, 3, "steps: exporting")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        whole = Path(scratch) / ONNX_FILE
        _write_float32(weights, whole)
        progress(1, 3, "steps: quantising")
        _quantise(whole, folder / ONNX_FILE)
    shutil.copyfile(weights.tokenizer / "tokenizer.json", folder / "tokenizer.json")
    progress(2, 3, "steps: comparing")
    made = Weights(name, folder / ONNX_FILE, folder)
    cosines = (Encoder(made).encode(texts) * Encoder(weights).encode(texts)).sum(axis=1)
    progress(3, 3, "steps done")
    exported = Exported(made, float(cosines.mean()), float(cosines.min()), len(texts))
    if not exported.mean_cosine >= LEAST_MEAN_COSINE:
        raise ConfigurationError(
            f"refused: the mean cosine of {len(texts)} texts to their vectors before is "
            f"{exported.mean_cosine:.4f}; it must be at least {LEAST_MEAN_COSINE}"
        )
    return exported


def _write_float32(weights: Weights, file: Path) -> None:
    # What is exported must not depend on the processor: float32 everywhere.
    model = TorchBackend(weights.tokenizer, MAX_TOKENS, torch.float32).model
    ids, mask = torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64)
    mask[1, 5:] = 0  # else the export may take the mask for a constant
    shape = {
        0: torch.export.Dim("texts", min=1),
        1: torch.export.Dim("tokens", min=2, max=MAX_TOKENS),
    }
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _States(model).eval(),
                (ids, mask),
                file,
                input_names=["input_ids", "attention_mask"],
                output_names=["last_hidden_state"],
                dynamic_shapes=(shape, shape),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _quantise(whole: Path, file: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a step that dynamic quantisation does not need
    pending = file.with_suffix(f".{os.getpid()}")
    try:
        quantize_dynamic(whole, pending, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        root.setLevel(level)
    pending.replace(file)
