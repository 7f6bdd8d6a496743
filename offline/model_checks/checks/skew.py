"""Train/serve skew: what serves answers as its artifact does here."""

from __future__ import annotations

import numpy as np

from recmesh.models.model import Capability, Context, Float32, User
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.material import ASKED
from recmesh.offline.model_checks.opinions import difference, opinions
from recmesh.offline.model_checks.result import Result, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2

SAME = 1e-4
"""Relative; other machines and thread counts sum in another order."""


def _user(features: common_pb2.UserFeatures) -> User:
    return User(
        features.user_id,
        list(features.history_item_ids),
        list(features.history_event_types),
        list(features.history_times_unix_s),
        list(features.specialties),
        features.country,
        features.language,
    )


async def skew(subject: Subject) -> Result:
    """Asks the artifact in this process, and the server, the same."""
    subject.need(Capability.SCORE, Capability.RETRIEVE)
    model, asks = subject.loaded, subject.asks
    worst = 0.0
    for user in asks.users:
        context = Context(_user(user), asks.surface, asks.now_unix_s)
        if subject.can(Capability.SCORE):
            items = asks.some(ASKED)
            served = opinions(await subject.port.score(asks.score(user, items)))
            here: Float32 = model.score(context, items)
        else:
            found = await subject.port.retrieve(asks.retrieve(user, ASKED))
            served = np.array(found.scores, np.float64)
            here = model.retrieve(context, ASKED).scores
        worst = max(worst, difference(np.asarray(here, np.float64), served))
    return measured(
        worst,
        SAME,
        "relative",
        passed=f"{len(asks.users)} users get the scores of {subject.said.version} loaded here",
        failed=f"what serves answers otherwise than its artifact {subject.said.version} loaded "
        f"here, by {worst:.2g}",
        fix="Serve the artifact that was trained, with the code that is checked: deploy it again, "
        "and read every feature from the request as training reads it from the events.",
    )


CHECK = Check(
    id="skew",
    title="Serves what was trained",
    measures=f"Scores that are served against those of the same artifact loaded in this process; "
    f"largest relative difference, at most {SAME:g}.",
    why="Offline figures say nothing of a model that computes its features otherwise in service.",
    run=skew,
)
