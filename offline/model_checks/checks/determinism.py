"""Determinism: the same request is answered the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.material import ASKED
from recmesh.offline.model_checks.opinions import SAME, Float64, difference, opinions
from recmesh.offline.model_checks.result import Result, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2, model_pb2

USERS = 8
ROUNDS = 5


async def _answers(subject: Subject, user: common_pb2.UserFeatures) -> dict[str, Float64]:
    asks, port = subject.asks, subject.port
    given: dict[str, Float64] = {}
    if subject.can(Capability.SCORE):
        given["Score"] = opinions(await port.score(asks.score(user, asks.some(ASKED))))
    if subject.can(Capability.RETRIEVE):
        found = await port.retrieve(asks.retrieve(user, 50))
        given["Retrieve"] = _by_item(found)
    if subject.can(Capability.EMBED):
        said = await port.embed(model_pb2.EmbedRequest(user=user, now_unix_s=asks.now_unix_s))
        given["Embed"] = np.array(said.values, np.float64)
    return given


def _by_item(found: Any) -> Float64:
    """Scores by item id, so that equal scores may change places."""
    order = sorted(range(len(found.item_ids)), key=lambda place: found.item_ids[place])
    return np.array([found.scores[place] for place in order], np.float64)


async def determinism(subject: Subject) -> Result:
    """Asks the same in rounds, so that other requests lie between two equal ones."""
    users = subject.asks.users[:USERS]
    first: list[dict[str, Float64]] = []
    worst, where = 0.0, ""
    for number in range(ROUNDS):
        for place, user in enumerate(users):
            given = await _answers(subject, user)
            if number == 0:
                first.append(given)
                continue
            for method, values in given.items():
                apart = difference(first[place][method], values)
                if apart > worst:
                    worst, where = apart, method
    return measured(
        worst,
        SAME,
        "relative",
        passed=f"{len(users)} users, asked {ROUNDS} times each, got the same",
        failed=f"{where} answered the same request differently, by {worst:.2g}",
        fix="Take randomness out of answers (seed it by the request, switch dropout off), the time "
        "from now_unix_s, and keep nothing of earlier calls.",
    )


CHECK = Check(
    id="determinism",
    title="Same request, same answer",
    measures=f"{USERS} users, {ROUNDS} times each, in turns; largest relative difference, at most "
    f"{SAME:g}.",
    why="Pages could not be explained or repeated, and an experiment would measure noise.",
    run=determinism,
)
