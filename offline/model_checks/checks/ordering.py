"""Ordering: Retrieve answers best first."""

from __future__ import annotations

import itertools

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.result import Result, measured
from recmesh.offline.model_checks.subject import Subject

LIMIT = 200


async def ordering(subject: Subject) -> Result:
    """Looks for neighbours of which the later one scores higher."""
    subject.need(Capability.RETRIEVE)
    asks = subject.asks
    wrong = pairs = 0
    example = ""
    for user in asks.users:
        found = await subject.port.retrieve(asks.retrieve(user, LIMIT))
        scores = list(found.scores)
        for place, (one, two) in enumerate(itertools.pairwise(scores), 1):
            pairs += 1
            if two > one:
                wrong += 1
                example = example or f"place {place} scores {one:.3g}, place {place + 1} {two:.3g}"
    return measured(
        wrong,
        0,
        f"of {pairs} neighbours in the wrong order",
        passed=f"{len(asks.users)} lists, best first",
        failed=f"Retrieve's order is wrong: {example}",
        fix="Sort what Retrieve answers by score, highest first: the mesh takes the first ones.",
    )


CHECK = Check(
    id="ordering",
    title="Best first",
    measures=f"Neighbours in lists of up to {LIMIT} items of which the later one scores higher; "
    "none.",
    why="The mesh cuts lists from the end, and would throw away the best.",
    run=ordering,
)
