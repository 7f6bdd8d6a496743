"""Estimators of a policy's value from another policy's log.

Each gives contributions ``[n]``, whose mean is the estimate and whose spread over independent
units is its error: of ratios they are linearised.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.offline.off_policy.logged_actions import LoggedActions

Float64 = npt.NDArray[np.float64]


def weighted(reward: Float64, weight: Float64) -> Float64:
    """Inverse propensity scoring (Horvitz & Thompson 1952); unbiased under full support.

    Args:
        reward: of every slot ``[n, slots]``.
        weight: from :mod:`~recmesh.offline.off_policy.importance_weights`, of the same shape;
            the weights chosen make it IPS, slate IPS, cascade IPS or IIPS.
    """
    return np.asarray((weight * reward).sum(axis=1))


def self_normalised(reward: Float64, weight: Float64) -> Float64:
    """SNIPS (Swaminathan & Joachims, NeurIPS 2015), for every slot by itself.

    Its bias falls with 1/n; it stays within the rewards' range and does without the spread that
    comes from the weights' own. Arguments as in :func:`weighted`; under cascade weights this is
    RIPS (McInerney et al. 2020).
    """
    total = weight.sum(axis=0)
    level = (weight * reward).sum(axis=0) / np.where(total > 0, total, 1.0)
    scaled = weight / np.where(total > 0, weight.mean(axis=0), 1.0)
    return np.asarray((level + scaled * (reward - level)).sum(axis=1))


def doubly_robust(
    log: LoggedActions,
    new: Float64,
    predicted: Float64,
    weight: Float64,
    threshold: float = np.inf,
) -> Float64:
    """DR (Dudík, Langford & Li, ICML 2011), and with a threshold Switch-DR.

    Switch-DR (Wang, Agarwal & Dudík, ICML 2017) corrects the model only where the weight is at
    most the threshold: less spread, and a bias of what the model gets wrong beyond it.

    Args:
        log: what was logged.
        new: the new policy's probabilities ``[n, actions]``.
        predicted: rewards by a model that did not see the row ``[n, actions]``
            (:func:`~recmesh.offline.off_policy.reward_model.cross_fitted`).
        weight: ``[n]``.
        threshold: largest weight that is corrected with; infinite: DR.
    """
    model = np.einsum("na,na->n", new, predicted)
    missed = log.reward - np.take_along_axis(predicted, log.action[:, None], axis=1)[:, 0]
    return np.asarray(model + np.where(weight <= threshold, weight, 0.0) * missed)
