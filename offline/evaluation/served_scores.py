"""What a model answers for everybody, asked as the mesh asks it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.models.model import Context, Float32, Model, Progress, User, silent
from recmesh.offline.evaluation.period import Period
from recmesh.orchestrator.user_store import UserStore

SURFACE = "feed"


def request_user(store: UserStore, user_id: str) -> User:
    """The user as a request carries them to a model."""
    profile = store.get(user_id)
    return User(
        user_id=user_id,
        history_item_ids=profile.history_item_ids,
        history_event_types=profile.history_event_types,
        history_times_unix_s=profile.history_times_unix_s,
        specialties=profile.specialties,
        country=profile.country,
        language=profile.language,
    )


def served_scores(model: Model, period: Period, progress: Progress = silent) -> Float32:
    """Raw scores ``[users, catalogue]``; NaN where the model has no opinion.

    Users come with the profile and the recent events that a request at the period's start
    would carry: the model sees what it would see in service, and nothing later.
    """
    store = UserStore(period.known)
    return scores_of(model, store, period.users, period.catalogue, period.now_unix_s, progress)


def scores_of(
    model: Model,
    store: UserStore,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    now_unix_s: int,
    progress: Progress = silent,
) -> Float32:
    """Raw scores ``[users, items]`` as requests at one moment would be given them.

    NaN where the model has no opinion.
    """
    scores = np.empty((len(user_ids), len(item_ids)), np.float32)
    for row, user_id in enumerate(user_ids):
        context = Context(request_user(store, user_id), SURFACE, now_unix_s)
        scores[row] = model.score(context, item_ids)
        if row % 50 == 0:
            progress(row, len(user_ids), "users scored")
    progress(len(user_ids), len(user_ids), "users scored")
    return scores
