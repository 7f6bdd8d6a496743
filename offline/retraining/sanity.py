"""What a candidate answers for everybody, beside what the live version answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from recmesh.models.interactions import read_interactions
from recmesh.models.model import Float32, Model, Progress, silent
from recmesh.offline.evaluation.fitting import newest_moment
from recmesh.offline.evaluation.served_scores import scores_of
from recmesh.orchestrator.blend import Calibration
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset

Bool = npt.NDArray[np.bool_]

SAMPLED_USERS = 200
SAMPLED_ITEMS = 5_000
TOP = 100
"""Scores a user that are compared: what is proposed, not the whole catalogue."""


@dataclass(frozen=True, slots=True)
class Sanity:
    """Answers for users and items drawn from those with positive events."""

    users: int
    """Asked for."""
    items: int
    """Asked about."""
    nonfinite_weights: int
    """NaN and infinite numbers in the candidate's tensors."""
    infinite_scores: int
    opinions: float
    """Share of the users that the candidate has an opinion on."""
    calibration_knots: int
    users_kept: float | None = None
    """Of the users that the live version has an opinion on, the share that the candidate has;
    None: there is none to compare with."""
    items_kept: float | None = None
    """The same of items."""
    drift: float | None = None
    """Wasserstein-1 distance, in probability, of calibrated scores of each user's best 100.
    None: one of the two has no calibration."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Whom and what a candidate is asked about."""

    store: UserStore
    user_ids: list[str]
    item_ids: list[str]
    now_unix_s: int
    seen: Bool
    """What a user has touched before is not proposed ``[users, items]``."""

    @classmethod
    def of(cls, dataset: Dataset, seed: int) -> Sample:
        """200 users and 5,000 items with positive events, as of the newest event."""
        events = read_interactions(dataset)
        draw = np.random.default_rng(seed)

        users = np.sort(draw.permutation(len(events.user_ids))[:SAMPLED_USERS])
        items = np.sort(draw.permutation(len(events.item_ids))[:SAMPLED_ITEMS])
        touched = events.matrix(np.ones(len(events), np.float32))[users][:, items]
        newest = newest_moment(dataset)
        return cls(
            UserStore(dataset),
            [events.user_ids[user] for user in users],
            [events.item_ids[item] for item in items],
            int(newest.timestamp()) if newest else 0,
            touched.toarray() > 0,
        )

    def scores(self, model: Model, progress: Progress = silent) -> Float32:
        """``[users, items]``; NaN is no opinion."""
        return scores_of(model, self.store, self.user_ids, self.item_ids, self.now_unix_s, progress)


def _calibration(model: Model) -> Calibration | None:
    said = model.description.calibration
    if not said.get("raw_scores"):
        return None
    return Calibration(
        np.array(said["raw_scores"], np.float32), np.array(said["probabilities"], np.float32)
    )


def _proposed(scores: Float32, calibration: Calibration) -> Float32:
    """Calibrated scores of every user's best, of all users together ``[n]``."""
    kept = min(TOP, scores.shape[1])
    known = scores[np.isfinite(scores).any(axis=1)]
    lowest = np.where(np.isfinite(known), known, -np.inf)
    best = np.partition(lowest, lowest.shape[1] - kept, axis=1)[:, lowest.shape[1] - kept :]
    return calibration(best[np.isfinite(best)].astype(np.float32))


def checked(
    artifact: Artifact,
    candidate: Model,
    live: Model | None,
    sample: Sample,
    progress: Progress = silent,
) -> Sanity:
    """Asks both the same.

    Args:
        artifact: of the candidate.
        candidate: the model that it makes.
        live: what serves now; None: nothing.
        sample: whom and what to ask about.
        progress: told how far it is.
    """
    ours = sample.scores(candidate, progress)
    has = np.isfinite(ours)
    floats = [t for t in artifact.tensors.values() if np.issubdtype(t.dtype, np.floating)]
    users_kept = items_kept = drift = None
    if live is not None:
        theirs = sample.scores(live, progress)
        had = np.isfinite(theirs)
        users_kept, items_kept = _kept(has, had, axis=1), _kept(has, had, axis=0)
        calibrations = _calibration(candidate), _calibration(live)
        if calibrations[0] and calibrations[1]:
            drift = _distance(
                _proposed(np.where(sample.seen, np.nan, ours), calibrations[0]),
                _proposed(np.where(sample.seen, np.nan, theirs), calibrations[1]),
            )
    return Sanity(
        users=len(sample.user_ids),
        items=len(sample.item_ids),
        nonfinite_weights=sum(int((~np.isfinite(tensor)).sum()) for tensor in floats),
        infinite_scores=int(np.isinf(ours).sum()),
        opinions=float(has.any(axis=1).mean()) if has.size else 0.0,
        calibration_knots=len(artifact.card.calibration.get("raw_scores", [])),
        users_kept=users_kept,
        items_kept=items_kept,
        drift=drift,
    )


def _kept(has: Bool, had: Bool, axis: int) -> float:
    """Of the users (axis 1) or items (0) that had an opinion, the share that has one."""
    now, before = np.any(has, axis=axis), np.any(had, axis=axis)
    return float(now[before].mean()) if before.any() else 1.0


def _distance(ours: Float32, theirs: Float32) -> float | None:
    if not len(ours) or not len(theirs):
        return None
    return float(wasserstein_distance(ours, theirs))
