"""The models' scores of a period, kept: training is the long part of a tuning."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from recmesh.models.model import Float32, Progress
from recmesh.models.registry import known_models
from recmesh.offline.evaluation.calibration_fit import calibration_of
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.served_scores import served_scores
from recmesh.orchestrator.blend import Calibration
from recmesh.storage.errors import DataError

FORMAT = 1


@dataclass(frozen=True)
class Opinions:
    """What models that were trained before a period think of its users' catalogue."""

    raw: dict[str, Float32]
    """``[users, catalogue]`` by model; NaN: no opinion."""
    absent: dict[str, str]
    """Models without any, and why."""

    def calibrations(self, of: Period) -> dict[str, Calibration]:
        """Fitted on the period, which is then good for choosing, not for judging."""
        fitted = {name: calibration_of(scores, of) for name, scores in self.raw.items()}
        return {name: found for name, found in fitted.items() if found is not None}


def _key(of: Period, dataset_version: str, seed: int) -> str:
    made_of = [FORMAT, dataset_version, of.known.moment.isoformat(), sorted(known_models()), seed]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def _naming(name: str, progress: Progress) -> Progress:
    return lambda done, total, message: progress(done, total, f"{name}: {message}")


def opinions(
    of: Period,
    dataset_version: str,
    seed: int,
    kept: Path,
    text_vectors: Path | None,
    progress: Progress,
) -> Opinions:
    """Trains every model on what lies before the period, unless ``kept`` has its scores.

    Raises:
        DataError: no model has an opinion.
    """
    raw: dict[str, Float32] = {}
    absent: dict[str, str] = {}
    folder = kept / _key(of, dataset_version, seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in known_models():
        file = folder / f"{name}.safetensors"
        if file.is_file():
            raw[name] = load_file(file)["scores"]
        else:
            show = _naming(name, progress)
            try:
                trained = fit(
                    name,
                    of.known,
                    until=of.known.moment,
                    seed=seed,
                    text_vectors=text_vectors,
                    progress=show,
                )
            except DataError as error:
                absent[name] = str(error)
                continue
            raw[name] = served_scores(serving_model(trained), of, show)
            pending = file.with_suffix(".writing")
            save_file({"scores": raw[name]}, pending)
            pending.replace(file)
        if not np.isfinite(raw[name]).any():
            absent[name] = "it has no opinion on any user"
            del raw[name]
    if not raw:
        raise DataError("no model has an opinion on any user")
    return Opinions(raw, absent)
