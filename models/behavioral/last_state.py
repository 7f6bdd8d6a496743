"""SASRec's state after the last event, in NumPy: all that serving needs of the network.

One sequence of 50 events is too little work for torch: calling its operators costs several times
what they compute, and their threads spin while they wait for each other. The last block is
computed for the last event only. Equal to :class:`~recmesh.models.behavioral.sasrec.SASRec` but
for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.models.behavioral.sequence import EVENT_KINDS, GAP_BUCKETS, LENGTH
from recmesh.models.model import Float32, Int64
from recmesh.storage.errors import DataError

EPSILON = np.float32(1e-5)
"""As torch's LayerNorm."""


class _Weights:
    """Named weights, each of the shape it must have."""

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    def take(self, name: str, *shape: int) -> Float32:
        weight = self._tensors[self._prefix + name]
        if weight.shape != shape:
            raise DataError(f"{self._prefix}{name} is {list(weight.shape)}, not {list(shape)}")
        return np.asarray(weight, np.float32)


class _Norm:
    def __init__(self, weights: _Weights, name: str, dim: int) -> None:
        self._weight = weights.take(f"{name}.weight", dim)
        self._bias = weights.take(f"{name}.bias", dim)

    def __call__(self, states: Float32) -> Float32:
        centred = states - states.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        out: Float32 = centred / np.sqrt(variance + EPSILON) * self._weight + self._bias
        return out


class _Linear:
    def __init__(self, weight: Float32, bias: Float32) -> None:
        self._weight, self._bias = np.ascontiguousarray(weight.T), bias

    @classmethod
    def named(cls, weights: _Weights, name: str, dim: int) -> _Linear:
        return cls(weights.take(f"{name}.weight", dim, dim), weights.take(f"{name}.bias", dim))

    def __call__(self, states: Float32) -> Float32:
        out: Float32 = states @ self._weight + self._bias
        return out


class _Block:
    def __init__(self, weights: _Weights, dim: int) -> None:
        self._before_attention = _Norm(weights, "before_attention", dim)
        mix = weights.take("mix.weight", 3 * dim, dim)
        mix_bias = weights.take("mix.bias", 3 * dim)
        self._query = _Linear(mix[:dim], mix_bias[:dim])
        self._key_value = _Linear(mix[dim:], mix_bias[dim:])
        self._before_forward = _Norm(weights, "before_forward", dim)
        self._inner = _Linear.named(weights, "forward_net.0", dim)
        self._outer = _Linear.named(weights, "forward_net.3", dim)
        self._scale = np.float32(dim**-0.5)

    def __call__(self, states: Float32, later: Float32) -> Float32:
        """The states of the last ``len(later)`` events.

        Args:
            states: of all events ``[length, dim]``.
            later: -inf where an event must not see one ``[asked, length]``, else 0.
        """
        seen = self._before_attention(states)
        asked = len(later)
        key, value = np.split(self._key_value(seen), 2, axis=1)
        attention = self._query(seen[-asked:]) @ key.T * self._scale + later
        attention = np.exp(attention - attention.max(axis=1, keepdims=True))
        attention /= attention.sum(axis=1, keepdims=True)
        states = states[-asked:] + attention @ value
        inner = np.maximum(self._inner(self._before_forward(states)), np.float32(0))
        out: Float32 = states + self._outer(inner)
        return out


class LastState:
    """Maps a sequence to its state in the space of item vectors. Thread-safe."""

    def __init__(
        self, tensors: Mapping[str, npt.NDArray[Any]], items: int, dim: int, blocks: int
    ) -> None:
        """Takes the weights of a trained network.

        Raises:
            KeyError: a weight is missing.
            DataError: a weight has another shape than ``items``, ``dim`` and ``blocks`` make.
        """
        weights = _Weights(tensors)
        self.items = weights.take("items.weight", items + 1, dim)
        """Vectors ``[items + 1, dim]``; row 0 is padding."""
        self._kinds = weights.take("kinds.weight", EVENT_KINDS, dim)
        self._gaps = weights.take("gaps.weight", GAP_BUCKETS, dim)
        self._positions = weights.take("positions.weight", LENGTH, dim)
        self._blocks = [_Block(_Weights(tensors, f"blocks.{n}."), dim) for n in range(blocks)]
        self._last = _Norm(weights, "last", dim)
        self._later = np.triu(np.full((LENGTH, LENGTH), -np.inf, np.float32), 1)

    def __call__(self, items: Int64, kinds: Int64, gaps: Int64) -> Float32:
        """The state ``[dim]`` after the last of ``length`` events, items counted from 1."""
        length = len(items)
        states: Float32 = self.items[items] + self._kinds[kinds] + self._gaps[gaps]
        states = states + self._positions[:length]
        later = self._later[:length, :length]
        for number, block in enumerate(self._blocks, 1):
            states = block(states, later[-1:] if number == len(self._blocks) else later)
        return self._last(states[-1])
