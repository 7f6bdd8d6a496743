"""Fills the slots of a page: utility against diversity, under the surface's rules.

Greedy maximal marginal relevance (Carbonell & Goldstein 1998) over topic overlap, with
a cap per topic. When too few candidates satisfy every rule,
rules are relaxed in a declared order, and the answer names them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

RELAXATION_ORDER = ("max_per_topic",)
"""Rules that may give way, first to last."""


@dataclass(frozen=True, slots=True)
class SlateRules:
    """Rules of one page; see ``policies/default.toml``."""

    slots: int
    mmr_lambda: float
    max_per_topic: int


@dataclass(frozen=True, slots=True)
class Slate:
    """A filled page."""

    chosen: Int32
    """Positions among the candidates, best slot first ``[≤ slots]``."""
    relaxed: tuple[str, ...]


def _jaccard(topics: npt.NDArray[np.uint64], sizes: Float32, one: int) -> Float32:
    """Topic overlap of every candidate with one ``[n]``, in [0, 1]."""
    shared = np.bitwise_count(topics & topics[one]).sum(axis=1).astype(np.float32)
    union = sizes + sizes[one] - shared
    overlap: Float32 = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def select(
    utility: Float32,
    topics: npt.NDArray[np.uint64],
    rules: SlateRules,
) -> Slate:
    """Chooses and orders the slots.

    Args:
        utility: ``[n]``; -inf never takes a slot. Ties go to the earlier candidate.
        topics: topic sets as bits, uint64 ``[n, n_words]``.
        rules: of this page.
    """
    n = len(utility)
    sizes = np.bitwise_count(topics).sum(axis=1).astype(np.float32)
    topic_of_bit = np.unpackbits(
        np.ascontiguousarray(topics).view(np.uint8).reshape(n, topics.shape[1] * 8),
        axis=1,
        bitorder="little",
    ).astype(bool)
    used_topics = topic_of_bit.any(axis=0)
    membership = topic_of_bit[:, used_topics]
    per_topic = np.zeros(membership.shape[1], np.int64)
    available = np.isfinite(utility)
    worth = np.where(available, utility, np.float32(0))
    similarity = np.zeros(n, np.float32)
    chosen: list[int] = []
    relaxed: list[str] = []
    while len(chosen) < rules.slots:
        full = per_topic >= rules.max_per_topic
        within_caps = available & ~membership[:, full].any(axis=1)
        if not within_caps.any():
            if not available.any():
                break
            within_caps = available
            if "max_per_topic" not in relaxed:
                relaxed.append("max_per_topic")
        marginal = rules.mmr_lambda * worth - (1.0 - rules.mmr_lambda) * similarity
        best = int(np.argmax(np.where(within_caps, marginal, -np.inf)))
        chosen.append(best)
        available[best] = False
        per_topic += membership[best]
        np.maximum(similarity, _jaccard(topics, sizes, best), out=similarity)
    return Slate(np.array(chosen, np.int32), tuple(relaxed))
