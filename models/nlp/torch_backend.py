"""A transformer of a Hugging Face folder in torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from recmesh.models.model import Float32


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16; where it does not, torch is slower in it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class TorchBackend:
    """Reads safetensors from a local folder; nothing is fetched."""

    def __init__(self, folder: Path, max_tokens: int, dtype: torch.dtype | None = None) -> None:
        """``dtype`` of weights and states; None: bfloat16 where :func:`has_bfloat16`."""
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._max_tokens = max_tokens
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype or (torch.bfloat16 if has_bfloat16() else torch.float32),
        ).eval()
        self.dim = int(self.model.config.hidden_size)
        self._lock = threading.Lock()

    def states(self, texts: Sequence[str]) -> tuple[Float32, npt.NDArray[np.int64]]:
        """Last hidden states ``[n, tokens, dim]`` and the mask of real tokens ``[n, tokens]``."""
        with self._lock:  # fast tokenizers do not take truncation from two threads
            tokens = self._tokenizer(
                list(texts),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
        return states.float().numpy(), tokens["attention_mask"].numpy()
