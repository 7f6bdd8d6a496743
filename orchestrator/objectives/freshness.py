"""Freshness: a guideline stays fresh for longer than news."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.objectives.objective_input import Float32, ObjectiveInput

EVERY_OTHER_TYPE = "default"


def freshness(candidates: ObjectiveInput) -> Float32:
    """Exponential decay with age ``[n]``, in [0, 1]; 0 for items of unknown age.

    Every content type has its half-life; an item of several types has the longest.
    """
    rows, content_types = candidates.rows, candidates.catalog.content_types
    half_life_days = np.zeros(len(rows))
    for content_type, days in candidates.half_life_days.items():
        if content_type in content_types.vocabulary:
            of_type = content_types.overlaps(rows, (content_type,))
            np.maximum(half_life_days, days, out=half_life_days, where=of_type)
    half_life_days[half_life_days == 0] = candidates.half_life_days[EVERY_OTHER_TYPE]
    published = candidates.catalog.published_unix_s[rows]
    age_days = np.maximum(candidates.now_unix_s - published, 0) / 86_400.0
    decayed = np.exp2(-age_days / half_life_days)
    return np.where(published > 0, decayed, 0.0).astype(np.float32)
