"""Batch independence: an item's score does not depend on the items beside it."""

from __future__ import annotations

import numpy as np

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.opinions import SAME, Float64, difference, opinions
from recmesh.offline.model_checks.result import NotCheckedError, Result, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2

USERS = 4
ITEMS = 100
ALONE = 10


async def batch_independence(subject: Subject) -> Result:
    """Asks for the same items in other companies."""
    subject.need(Capability.SCORE)
    asks = subject.asks
    worst, where, opined = 0.0, "", 0
    rng = np.random.default_rng(subject.seed)
    for user in asks.users[:USERS]:
        items = list(dict.fromkeys(asks.some(ITEMS)))
        whole = await _scores(subject, user, items)
        opined += int(np.isfinite(whole).sum())
        order = rng.permutation(len(items))
        found = {
            "in another order": (
                whole[order],
                await _scores(subject, user, [items[place] for place in order]),
            ),
            "in four parts": (
                whole,
                np.concatenate(
                    [
                        await _scores(subject, user, [items[place] for place in part])
                        for part in np.array_split(np.arange(len(items)), 4)
                        if len(part)
                    ]
                ),
            ),
            "alone": (
                whole[:ALONE],
                np.concatenate([await _scores(subject, user, [i]) for i in items[:ALONE]]),
            ),
            "twice": (
                np.concatenate([whole, whole]),
                await _scores(subject, user, items + items),
            ),
        }
        for company, (expected, given) in found.items():
            apart = difference(expected, given)
            if apart > worst:
                worst, where = apart, company
    if not opined:
        raise NotCheckedError("it has no opinion on any item that it was asked about")
    return measured(
        worst,
        SAME,
        "relative",
        passed="items in another order, in parts, alone and twice score the same",
        failed=f"an item's score depends on the other items asked: asked {where}, it differs by "
        f"{worst:.2g}",
        fix="Score each item by itself: standardise over the model's whole catalogue or not at "
        "all, never over the items of a request; normalise no batch.",
    )


async def _scores(subject: Subject, user: common_pb2.UserFeatures, items: list[str]) -> Float64:
    return opinions(await subject.port.score(subject.asks.score(user, items)))


CHECK = Check(
    id="batch-independence",
    title="Scores items by themselves",
    measures=f"{ITEMS} items in another order, in four parts, alone and twice in one request, "
    f"{USERS} users; largest relative difference, at most {SAME:g}.",
    why="Calibration would not hold, and a page would change with candidates that it never shows.",
    run=batch_independence,
)
