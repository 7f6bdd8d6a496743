"""What a model answers for everybody, asked as the mesh asks it."""

from __future__ import annotations

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
    scores = np.empty((len(period.users), len(period.catalogue)), np.float32)
    for row, user_id in enumerate(period.users):
        context = Context(request_user(store, user_id), SURFACE, period.now_unix_s)
        scores[row] = model.score(context, period.catalogue)
        if row % 50 == 0:
            progress(row, len(period.users), "users scored")
    progress(len(period.users), len(period.users), "users scored")
    return scores
