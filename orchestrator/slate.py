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


def _membership(topics: npt.NDArray[np.uint64]) -> Float32:
    """Which candidate has which of the topics that any has, 0 or 1 ``[n, n_topics]``."""
    n, n_words = topics.shape
    bits = np.ascontiguousarray(topics).view(np.uint8).reshape(n, n_words * 8)
    has = np.unpackbits(bits, axis=1, bitorder="little")
    return has[:, has.any(axis=0)].astype(np.float32)


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
    membership = _membership(topics)
    sizes = membership.sum(axis=1)
    per_topic = np.zeros(membership.shape[1], np.float32)
    similarity = np.zeros(len(utility), np.float32)
    can_be_shown = np.isfinite(utility)
    worth = rules.mmr_lambda * np.where(can_be_shown, utility, np.float32(0))
    # -inf: taken, or never to be shown.
    left = np.where(can_be_shown, worth, -np.inf)
    # The same, and -inf where a topic has its share already.
    within_caps = left.copy()
    chosen: list[int] = []
    relaxed: list[str] = []
    while len(chosen) < min(rules.slots, len(utility)):
        marginal = within_caps - (1.0 - rules.mmr_lambda) * similarity
        best = int(marginal.argmax())
        if marginal[best] == -np.inf:
            if within_caps is left or (left == -np.inf).all():
                break
            relaxed.append("max_per_topic")
            within_caps = left
            continue
        chosen.append(best)
        left[best] = within_caps[best] = -np.inf
        own = membership[best]
        per_topic += own
        if within_caps is not left:
            for topic in np.flatnonzero(own * per_topic >= rules.max_per_topic):
                within_caps[membership[:, topic] > 0] = -np.inf
        # Overlap of topics: Jaccard's, of every candidate with the one just taken.
        shared = membership @ own
        np.maximum(similarity, shared / np.maximum(sizes + sizes[best] - shared, 1), out=similarity)
    return Slate(np.array(chosen, np.int32), tuple(relaxed))
