"""How well settings rank what users wanted next: what models choose their settings by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recmesh.models.interactions import Interactions
from recmesh.models.model import Float32, Int64

K = 10
MOST_USERS = 2_000


def holdout_ndcg(
    early: Interactions,
    late: Interactions,
    users: Int64,
    scores: Callable[[int], Float32 | None],
    seed: int,
) -> float:
    """Mean nDCG@10 over users; full ranking, seen items removed; 0 without users to judge.

    Args:
        early: what the settings were fitted on.
        late: what came after it; positions as in ``early``.
        users: positions of the users to judge; at most 2,000 of them are drawn.
        scores: of a user's position, over all items ``[items]``, which may be written to;
            None when there is no opinion.
        seed: of the draw.
    """
    touched = early.matrix(np.ones(len(early), np.float32))
    wanted = late.matrix(np.ones(len(late), np.float32))
    if len(users) > MOST_USERS:
        users = np.random.default_rng(seed).choice(users, MOST_USERS, replace=False)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    values = []
    for user in users.tolist():
        seen = touched[user].indices
        fresh = np.setdiff1d(wanted[user].indices, seen)
        found = scores(user) if len(fresh) else None
        if found is None:
            continue
        found[seen] = -np.inf
        hits = np.isin(np.argsort(-found, kind="stable")[:K], fresh)
        ideal = discounts[: len(fresh)].sum()
        values.append(float(discounts[: len(hits)][hits].sum() / ideal))
    return float(np.mean(values)) if values else 0.0
