"""A transformer in ONNX, int8 or float, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from recmesh.models.model import Float32


class OnnxBackend:
    """Reads ``input_ids`` and ``attention_mask``; answers ``last_hidden_state``."""

    def __init__(self, file: Path, tokenizer: Path, max_tokens: int) -> None:
        options = onnxruntime.SessionOptions()
        # Ray sets the variable to a replica's share of the machine.
        threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1
        options.intra_op_num_threads = int(threads)
        self._session: Any = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        self.dim = int(self._session.get_outputs()[0].shape[-1])
        self._tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding()

    def states(self, texts: Sequence[str]) -> tuple[Float32, npt.NDArray[np.int64]]:
        """Last hidden states ``[n, tokens, dim]`` and the mask of real tokens ``[n, tokens]``."""
        tokens = self._tokenizer.encode_batch(list(texts))
        ids = np.array([text.ids for text in tokens], np.int64)
        mask = np.array([text.attention_mask for text in tokens], np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        states: Float32 = self._session.run(["last_hidden_state"], feeds)[0]
        return states, mask
