"""Models of the reward of actions that were not taken, for doubly robust estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import optimize

from recmesh.offline.off_policy.logged_actions import LoggedActions
from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

Predictor = Callable[[Int64], Float64]
"""Rows of the log to expected rewards of all actions ``[rows, actions]``."""


class RewardModel(Protocol):
    """Learns expected rewards from some rows of a log."""

    def fit(self, log: LoggedActions, rows: Int64) -> Predictor:
        """Learns from ``rows`` alone; what it returns predicts for any row."""
        ...


def cross_fitted(log: LoggedActions, model: RewardModel, folds: int = 5, seed: int = 0) -> Float64:
    """Rewards of all actions ``[n, actions]``, each row's by a model that saw none of its unit.

    Chernozhukov et al., "Double/debiased machine learning", Econometrics Journal 2018.

    Raises:
        DataError: fewer units than folds.
    """
    present = np.unique(log.unit)
    if len(present) < folds:
        raise DataError(f"{len(present)} units are too few for {folds} folds")
    fold_of = np.empty(log.unit.max() + 1, np.int64)
    fold_of[np.random.default_rng(seed).permutation(present)] = np.arange(len(present)) % folds
    fold = fold_of[log.unit]
    predicted: Float64 | None = None
    for held_out in range(folds):
        rows = np.flatnonzero(fold == held_out)
        found = model.fit(log, np.flatnonzero(fold != held_out))(rows)
        if predicted is None:
            predicted = np.empty((len(log), found.shape[1]))
        predicted[rows] = found
    assert predicted is not None  # folds is at least 1
    return predicted


@dataclass(frozen=True)
class ShrunkMeans:
    """Mean reward of every action, shrunk towards all actions' in the same position.

    A beta prior, its strength by the method of moments; for rewards in [0, 1] and actions
    without features.
    """

    actions: int

    def fit(self, log: LoggedActions, rows: Int64) -> Predictor:
        """Learns means of the rows given."""
        action, reward, position = log.action[rows], log.reward[rows], log.position[rows]
        slots = int(log.position.max())
        level = np.bincount(position, reward, slots + 1) / np.maximum(
            np.bincount(position, minlength=slots + 1), 1
        )
        overall = float(reward.mean())
        # An action's lift over its positions, on the scale of counts.
        expected = np.asarray(np.bincount(action, level[position], self.actions), np.float64)
        gained = np.asarray(np.bincount(action, reward, self.actions), np.float64)
        strength = _prior_strength(expected, gained)
        lift = (gained + strength) / (expected + strength)

        def predict(wanted: Int64) -> Float64:
            base = level[log.position[wanted]]
            base = np.where(base > 0, base, overall)
            return np.asarray(np.clip(base[:, None] * lift[None, :], 0.0, 1.0))

        return predict


def _prior_strength(expected: Float64, gained: Float64) -> float:
    """Expected rewards that the prior is worth: those that explain the spread beyond chance."""
    seen = expected > 0
    if seen.sum() < 2:
        return 1.0
    e, g = expected[seen], gained[seen]
    # Var(g) = e + e² τ² of a Poisson count whose rate has relative variance τ².
    tau = float((np.square(g - e) - e).sum() / np.square(e).sum())
    return 1.0 / max(tau, 1e-3)


@dataclass(frozen=True)
class LogisticRewards:
    """Logistic regression on features of row and action, a level for each position; ridge.

    For rewards in [0, 1].
    """

    features: Float64
    """``[n, actions, features]``, of about unit scale."""
    penalty: float = 1.0
    """Half of it times the squared weights is added to the loss; levels are free."""

    def fit(self, log: LoggedActions, rows: Int64) -> Predictor:
        """Learns by L-BFGS."""
        slots = int(log.position.max())
        x = self.features[rows, log.action[rows]]
        place = log.position[rows] - 1
        reward = log.reward[rows]
        width = x.shape[1]

        def loss(weights: Float64) -> tuple[float, Float64]:
            slope, level = weights[:width], weights[width:]
            logit = x @ slope + level[place]
            residual = 1.0 / (1.0 + np.exp(-logit)) - reward
            value = np.logaddexp(0.0, logit).sum() - reward @ logit
            slopes = x.T @ residual + self.penalty * slope
            levels = np.bincount(place, residual, slots)
            return float(value + self.penalty / 2 * slope @ slope), np.append(slopes, levels)

        mean = min(max(float(reward.mean()), 1e-4), 1 - 1e-4)
        start = np.append(np.zeros(width), np.full(slots, np.log(mean / (1 - mean))))
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x

        def predict(wanted: Int64) -> Float64:
            level = found[width:][log.position[wanted] - 1]
            logit = self.features[wanted] @ found[:width] + level[:, None]
            return np.asarray(1.0 / (1.0 + np.exp(-logit)))

        return predict
