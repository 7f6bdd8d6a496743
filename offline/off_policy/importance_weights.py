"""Importance weights: how much likelier the new policy is to do what was logged.

Every function gives ``[n, slots]``: one weight for each slot's reward. What differs is which part
of a slate a slot's reward may depend on; the less it may, the smaller the weights, and the more
is assumed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.offline.off_policy.logged_actions import LoggedActions

Float64 = npt.NDArray[np.float64]


def action_weights(log: LoggedActions, new: Float64) -> Float64:
    """Of single decisions ``[n, 1]``; ``new``: the new policy's probabilities ``[n, actions]``."""
    chosen = np.take_along_axis(new, log.action[:, None], axis=1)
    return np.asarray(chosen / log.propensity[:, None])


def slate_weights(logging: Float64, new: Float64) -> Float64:
    """Rewards may depend on the whole slate: one weight for all its slots.

    Args:
        logging: the logging policy's probability of each slot's item given the slots above it
            ``[n, slots]``.
        new: the new policy's.
    """
    ratio = np.prod(new / logging, axis=1, keepdims=True)
    return np.broadcast_to(ratio, logging.shape)


def cascade_weights(logging: Float64, new: Float64) -> Float64:
    """A slot's reward may depend on the slots above it (McInerney et al., KDD 2020: RIPS).

    Arguments as in :func:`slate_weights`.
    """
    return np.asarray(np.cumprod(new / logging, axis=1), np.float64)


def item_position_weights(logging: Float64, new: Float64) -> Float64:
    """A slot's reward depends on its own item and place alone (Li et al., KDD 2018: IIPS).

    Args:
        logging: the logging policy's probability to show the item in the slot, whatever is
            above it ``[n, slots]``.
        new: the new policy's.
    """
    return new / logging
