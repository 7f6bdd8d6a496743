"""A new policy's value from another policy's log, by every estimator that applies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.offline.off_policy.estimators import doubly_robust, self_normalised, weighted
from recmesh.offline.off_policy.importance_weights import (
    action_weights,
    cascade_weights,
    item_position_weights,
    slate_weights,
)
from recmesh.offline.off_policy.interval import Interval, interval
from recmesh.offline.off_policy.logged_actions import LoggedActions, require_probabilities
from recmesh.offline.off_policy.logged_slates import LoggedSlates
from recmesh.offline.off_policy.reward_model import RewardModel, cross_fitted
from recmesh.offline.off_policy.support import Support, support, unsupported_mass
from recmesh.offline.off_policy.switch import switch_estimate
from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one estimator says, and whether the log supports it."""

    estimator: str
    interval: Interval
    support: Support

    @property
    def usable(self) -> bool:
        """False: do not report the value; ``support.refusals`` say why."""
        return not self.support.refusals


@dataclass(frozen=True)
class ActionEvaluation:
    """How to evaluate single decisions."""

    model: RewardModel
    """For doubly robust estimates."""
    largest_reward: float = 1.0
    """Bound on an action's expected reward, for Switch-DR; rewards are at least 0."""
    alpha: float = 0.05
    folds: int = 5
    seed: int = 0
    """Of the folds."""

    def estimates(
        self, log: LoggedActions, new: Float64, logging: Float64 | None = None
    ) -> list[Estimate]:
        """IPS, SNIPS, DR and Switch-DR of one log; all share its support.

        Args:
            log: what was logged.
            new: the new policy's probabilities ``[n, actions]``.
            logging: the logging policy's, if all are known: then missing support is known, too.

        Raises:
            DataError: shapes or probabilities are wrong, or logging and the log's propensities
                disagree.
        """
        require_probabilities("new", new, len(log))
        if log.action.max() >= new.shape[1]:
            raise DataError(f"action {log.action.max()} is logged, new has {new.shape[1]} actions")
        mass = None
        if logging is not None:
            require_probabilities("logging", logging, len(log))
            chosen = np.take_along_axis(logging, log.action[:, None], axis=1)[:, 0]
            off = np.abs(chosen - log.propensity)
            if off.max() > 1e-6:
                row = int(np.argmax(off))
                raise DataError(
                    f"propensity of row {row} is {log.propensity[row]:g} in the log "
                    f"and {chosen[row]:g} by the logging policy"
                )
            mass = unsupported_mass(logging, new)
        weight = action_weights(log, new)
        reward = log.reward[:, None]
        found = support(weight, reward, mass)
        predicted = cross_fitted(log, self.model, self.folds, self.seed)
        robust = doubly_robust(log, new, predicted, weight[:, 0])
        switched = switch_estimate(
            log, new, predicted, weight[:, 0], self.largest_reward, self.alpha
        )
        return [
            Estimate("IPS", interval(weighted(reward, weight), log.unit, self.alpha), found),
            Estimate(
                "SNIPS", interval(self_normalised(reward, weight), log.unit, self.alpha), found
            ),
            Estimate("DR", interval(robust, log.unit, self.alpha), found),
            Estimate("Switch-DR", switched.interval, found),
        ]


def slate_estimates(log: LoggedSlates, alpha: float = 0.05) -> list[Estimate]:
    """Of slates; support differs by what an estimator assumes.

    ========= ============================================= =========================
    slate IPS nothing                                       smallest support
    RIPS      readers go from the top                       self-normalised
    IIPS      a slot's reward depends on its item and place largest support
    ========= ============================================= =========================

    SNIIPS is IIPS self-normalised.
    """
    logging, new = log.logging, log.new
    whole = slate_weights(logging.given_above, new.given_above)
    above = cascade_weights(logging.given_above, new.given_above)
    own = item_position_weights(logging.in_slot, new.in_slot)
    estimators = (
        ("slate IPS", weighted, whole),
        ("RIPS", self_normalised, above),
        ("IIPS", weighted, own),
        ("SNIIPS", self_normalised, own),
    )
    return [
        Estimate(
            name,
            interval(estimator(log.reward, weight), log.unit, alpha),
            support(weight, log.reward),
        )
        for name, estimator, weight in estimators
    ]
