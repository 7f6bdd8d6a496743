"""Chooses the blend's weights and calibrations on the validation period alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import optuna

from recmesh.models.model import Float32, Int64, Progress, silent
from recmesh.offline.evaluation.calibration_fit import calibration_of
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.ranking import top_items, wanted_counts
from recmesh.offline.evaluation.served_blend import ServedBlend, calibrated, popular_scores
from recmesh.offline.metrics.relevance import ndcg
from recmesh.orchestrator.blend import Calibration, ScoreMatrix, relevance, score_matrix
from recmesh.orchestrator.retrieval import POPULAR

TRIALS = 150
POOL = 200
"""Best items of every scorer that a trial ranks: the policy's ``source_limit``."""
HALF_LIVES_DAYS = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0)
SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class TunedBlend:
    """The blend that ranked the validation period best."""

    blend: ServedBlend
    validation_ndcg: float
    """Of the tuned weights, over all users; it chose them, so it is optimistic."""
    trials: int


@dataclass(frozen=True)
class _Pools:
    """Candidates of all users, one after the other; all arrays ``[pairs]``."""

    users: Int64
    items: Int64
    wanted: npt.NDArray[np.bool_]
    n_wanted: Int64
    """Items that each user wants, pooled or not ``[users]``."""

    @classmethod
    def of(cls, columns: list[Float32], period: Period) -> _Pools:
        n_users, n_items = len(period.users), len(period.catalogue)
        pooled = np.zeros((n_users, n_items), bool)
        rows = np.arange(n_users)[:, None]
        for scores in columns:
            best = top_items(scores, period.seen, POOL)
            pooled[np.broadcast_to(rows, best.shape)[best >= 0], best[best >= 0]] = True
        users, items = np.nonzero(pooled)
        wanted = np.asarray(period.wanted[users, items]).ravel()
        return cls(users, items, wanted, wanted_counts(period.wanted))

    def ndcg(self, scores: Float32, k: int) -> float:
        """Mean nDCG@k over users of the pairs' scores ``[pairs]``."""
        order = np.lexsort((self.items, -scores, self.users))
        users = self.users[order]
        starts = np.searchsorted(users, np.arange(len(self.n_wanted)))
        ranks = np.arange(len(users)) - starts[users]
        found = self.wanted[order] & (ranks < k)
        hits = np.zeros((len(self.n_wanted), k), bool)
        hits[users[found], ranks[found]] = True
        return float(ndcg(hits, self.n_wanted).mean())


def _matrices(
    raw: Mapping[str, Float32],
    calibrations: Mapping[str, Calibration],
    popular: Mapping[float, Float32],
    pools: _Pools,
) -> dict[float, ScoreMatrix]:
    """What the scorers think of all pairs, for every half-life of popularity."""
    columns = {
        name: calibrated(scores[pools.users, pools.items], calibrations.get(name))
        for name, scores in raw.items()
    }
    return {
        half_life: score_matrix(columns | {POPULAR: scores[pools.items]}, len(pools.users))
        for half_life, scores in popular.items()
    }


def tune_blend(
    raw: Mapping[str, Float32], period: Period, k: int, seed: int, progress: Progress = silent
) -> TunedBlend:
    """Fits calibrations on the period, then searches weights for the best mean nDCG@k.

    The search is Optuna's TPE over the logarithm of every scorer's weight and over the
    half-life of popularity. Trials rank the union of every scorer's best 200, as serving does.

    Args:
        raw: models' scores ``[users, catalogue]`` of models trained before the period.
        period: the validation period; nothing later is looked at.
        k: length of the page.
        seed: of the search; equal input and seed give equal weights.
        progress: told of trials.
    """
    fitted = {name: calibration_of(scores, period) for name, scores in raw.items()}
    calibrations = {name: found for name, found in fitted.items() if found is not None}
    popular = {half_life: popular_scores(period, half_life) for half_life in HALF_LIVES_DAYS}
    shape = (len(period.users), len(period.catalogue))
    columns = [*raw.values(), *(np.broadcast_to(scores, shape) for scores in popular.values())]
    pools = _Pools.of(columns, period)
    matrices = _matrices(raw, calibrations, popular, pools)
    scorers = (*raw, POPULAR)
    done = 0

    def quality(trial: optuna.Trial) -> float:
        nonlocal done
        half_life = trial.suggest_categorical("half-life", HALF_LIVES_DAYS)
        weights = {
            name: trial.suggest_float(name, SMALLEST_WEIGHT, 1.0, log=True) for name in scorers
        }
        done += 1
        progress(done, TRIALS, "blends tried")
        return pools.ndcg(relevance(matrices[half_life], weights), k)

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=30)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.enqueue_trial({"half-life": 14.0} | dict.fromkeys(scorers, 0.1))
        study.optimize(quality, n_trials=TRIALS)
    finally:
        optuna.logging.set_verbosity(verbosity)
    best = dict(study.best_params)
    half_life = float(best.pop("half-life"))
    total = sum(best.values())
    weights = {name: round(weight / total, 4) for name, weight in best.items()}
    return TunedBlend(ServedBlend(weights, half_life, calibrations), study.best_value, TRIALS)
