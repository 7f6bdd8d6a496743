"""A training run's state in one file, replaced atomically: killing it loses minutes, not the run.

Safetensors with JSON in its header; reading it never runs code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import AdamW

from recmesh.storage.errors import ArtifactError


def save(file: Path, model: torch.nn.Module, optimizer: AdamW, progress: dict[str, Any]) -> None:
    """Writes weights, the optimizer's moments and ``progress``."""
    tensors: dict[str, Tensor] = {
        f"model.{name}": weight.detach().cpu().contiguous()
        for name, weight in model.state_dict().items()
    }
    for position, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{position}.{name}"] = value.detach().cpu().contiguous()
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_suffix(f".{os.getpid()}")
    save_file(tensors, pending, {"progress": json.dumps(progress)})
    pending.replace(file)


def restore(file: Path, model: torch.nn.Module, optimizer: AdamW) -> dict[str, Any]:
    """Reads what :func:`save` wrote into model and optimizer; returns ``progress``.

    Raises:
        ArtifactError: the file is damaged or of another run.
    """
    try:
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        with safe_open(file, framework="pt") as stored:
            progress: dict[str, Any] = json.loads(stored.metadata()["progress"])
            for key in stored.keys():  # noqa: SIM118 - not a dict
                part, _, name = key.partition(".")
                if part == "model":
                    weights[name] = stored.get_tensor(key)
                else:
                    position, _, moment = name.partition(".")
                    moments.setdefault(int(position), {})[moment] = stored.get_tensor(key)
        model.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{file} is damaged ({error}); remove it to start anew") from error
    return progress
