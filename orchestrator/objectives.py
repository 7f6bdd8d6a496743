"""The objectives a policy may weigh. Adding one is a function and an entry.

Each maps the candidates to float32 values in [0, 1], ``[n_candidates]``, and depends on
each candidate alone, never on which others are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.catalog import Catalog

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ObjectiveInput:
    """What objectives see: the candidates' rows of the catalog and what is known of them."""

    catalog: Catalog
    rows: npt.NDArray[np.int32]
    """Catalog rows ``[n]``."""
    relevance: Float32
    """Blended model opinion ``[n]``, in [0, 1]."""
    now_unix_s: int
    freshness_half_life_days: float


def relevance(candidates: ObjectiveInput) -> Float32:
    """What the models expect the user to want."""
    return candidates.relevance


def freshness(candidates: ObjectiveInput) -> Float32:
    """Exponential decay with age; 0 for items of unknown age."""
    published = candidates.catalog.published_unix_s[candidates.rows]
    age_days = np.maximum(candidates.now_unix_s - published, 0) / 86_400.0
    decayed = np.exp2(-age_days / candidates.freshness_half_life_days)
    return np.where(published > 0, decayed, 0.0).astype(np.float32)


def novelty(candidates: ObjectiveInput) -> Float32:
    """Self-information of the item's popularity, normalised (Vargas & Castells 2011)."""
    return candidates.catalog.novelty[candidates.rows]


OBJECTIVES: dict[str, Callable[[ObjectiveInput], Float32]] = {
    "relevance": relevance,
    "freshness": freshness,
    "novelty": novelty,
}
"""Objective id to its function."""
