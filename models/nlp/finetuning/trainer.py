"""Fine-tunes a sentence encoder contrastively, and goes on where it was stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recmesh.models.model import Progress, silent
from recmesh.models.nlp.finetuning import checkpoint
from recmesh.models.nlp.finetuning.contrastive import info_nce, pooled
from recmesh.models.nlp.finetuning.examples import Examples
from recmesh.models.nlp.torch_backend import has_bfloat16
from recmesh.storage.errors import ConfigurationError, DataError

STATE_FILE = "state.safetensors"


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How to fine-tune.

    Raises:
        ConfigurationError: a setting is out of its range.
    """

    steps: int = 40
    batch: int = 64
    """Anchors a step; each is compared with the texts of all."""
    learning_rate: float = 5e-5
    """Peak; rises over the first tenth, then falls to 0 in a straight line."""
    weight_decay: float = 0.01
    scale: float = 20.0
    """Of cosines in the loss: 1 / temperature."""
    anchor_tokens: int = 32
    text_tokens: int = 128
    dims: tuple[int, ...] = ()
    """Shorter vectors that must do well too (Matryoshka)."""
    seed: int = 0
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "scale", "anchor_tokens", "text_tokens"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it is above 0")
        if self.batch < 2:
            raise ConfigurationError(f"batch is {self.batch}; one alone has nothing to tell apart")


def device_of_choice() -> torch.device:
    """A GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def low_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the processor multiplies it, with float32 weights."""
    fast = device.type == "cuda" or has_bfloat16()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


class Trainer:
    """One run: the base's weights, the optimizer, and how far they have come."""

    def __init__(self, base: Path, examples: Examples, settings: FineTuning) -> None:
        """Loads the base; takes a second or two.

        Raises:
            DataError: there are fewer anchors than a batch holds.
            ConfigurationError: a Matryoshka dimension is not below the encoder's.
        """
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        if len(examples.anchors) < settings.batch:
            raise DataError(
                f"{len(examples.anchors)} anchors are fewer than a batch of {settings.batch}"
            )
        self._examples = examples
        self._settings = settings
        self._device = device_of_choice()
        self._tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        self._model = AutoModel.from_pretrained(
            base, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).to(self._device)
        widest = int(self._model.config.hidden_size)
        if any(not 0 < dim < widest for dim in settings.dims):
            raise ConfigurationError(f"dims are {settings.dims}; each lies between 0 and {widest}")
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        self.losses: list[float] = []

    def run(self, folder: Path, progress: Progress = silent) -> None:
        """Trains to the end; ``folder`` keeps the state of a run that is stopped.

        Raises:
            ArtifactError: the kept state is damaged.
        """
        file = folder / STATE_FILE
        if file.is_file():
            kept = checkpoint.restore(file, self._model, self._optimizer)
            self.step, self.losses = int(kept["step"]), list(kept["losses"])
        self._model.train()
        saved_s = time.monotonic()
        while self.step < self._settings.steps:
            self.losses.append(self._learn())
            self.step += 1
            if time.monotonic() - saved_s > self._settings.checkpoint_every_s:
                self.save(folder)
                saved_s = time.monotonic()
            recent = self.losses[-20:]
            progress(
                self.step, self._settings.steps, f"steps, loss {sum(recent) / len(recent):.3f}"
            )
        self.save(folder)

    def save(self, folder: Path) -> None:
        """Keeps the state in ``folder``."""
        done = {"step": self.step, "losses": self.losses}
        checkpoint.save(folder / STATE_FILE, self._model, self._optimizer, done)

    def write(self, folder: Path) -> None:
        """Writes a Hugging Face folder with safetensors."""
        self._model.save_pretrained(folder, safe_serialization=True)
        self._tokenizer.save_pretrained(folder)
        (folder / "finetuning.json").write_text(json.dumps(asdict(self._settings), indent=2))

    def _learn(self) -> float:
        settings = self._settings
        batch = self._examples.batch(settings.seed, self.step, settings.batch)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(self.step, settings.steps)
        # Dropout's randomness depends on the step alone, not on what ran before.
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        anchors = self._vectors(batch.anchors, settings.anchor_tokens)
        texts = self._vectors(batch.texts, settings.text_tokens)
        compared = torch.from_numpy(batch.compared).to(self._device)
        loss = info_nce(anchors, texts, compared, settings.scale, settings.dims)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        return float(loss.detach())

    def _vectors(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=max_tokens,
            return_tensors="pt",
        ).to(self._device)
        with low_precision(self._device):
            states = self._model(**tokens).last_hidden_state
        return pooled(states.float(), tokens["attention_mask"])


def _schedule(step: int, steps: int) -> float:
    rise = max(steps // 10, 1)
    return min((step + 1) / rise, (steps - step) / max(steps - rise, 1), 1.0)
