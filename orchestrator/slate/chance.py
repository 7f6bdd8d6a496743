"""Chance in filling a slot, so that logs can tell what other slates would have earned.

Each slot is drawn with probability proportional to exp(gain / temperature) among those whose gain
is near enough to the best: the model of Luce (1959) and Plackett (1975), with gains that depend on
the slots above. The probability of what was drawn is exact, whatever rules keep out.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def draws(request_id: str, slots: int) -> Float64:
    """One number in [0, 1) a slot ``[slots]``, from the request's id and nothing else.

    More slots do not change the first ones', so that pages are cuts of one slate.
    """
    seed = hashlib.blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(seed, "big"))).random(slots)


def probabilities(gain: Float64, temperature: float, most_loss: float) -> Float64:
    """With which each candidate gets the slot ``[n]``.

    Args:
        gain: what each adds ``[n]``; -inf: it may not have the slot. One is finite.
        temperature: 0: the best gets it, of equals the first.
        most_loss: who adds less than the best by more than this gets it never.
    """
    best = gain.max()
    if temperature <= 0:
        certain = np.zeros(len(gain))
        certain[int(gain.argmax())] = 1.0
        return certain
    near = gain >= best - most_loss
    weight = np.where(near, np.exp((np.where(near, gain, best) - best) / temperature), 0.0)
    return np.asarray(weight / weight.sum(), np.float64)


def drawn(probability: Float64, draw: float) -> int:
    """Who gets the slot, by a number in [0, 1)."""
    upto = np.cumsum(probability)
    # By rounding, the sum may end a little below 1: the last who can be drawn has the rest.
    last = int(np.flatnonzero(probability)[-1])
    return min(int(np.searchsorted(upto, draw * upto[-1], side="right")), last)
