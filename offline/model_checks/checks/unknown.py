"""Unknown users and items: a missing opinion is said, never faked and never NaN."""

from __future__ import annotations

import numpy as np

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.model_port import CallFailedError
from recmesh.offline.model_checks.opinions import Float64
from recmesh.offline.model_checks.result import Result, Rules
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2, model_pb2

ITEMS = 50
FAKE = 10
"""So many exact zeros and nothing else are no opinions."""
SAY = (
    "Name places without an opinion in ScoreResponse.missing (NaN in a Model's score), and return "
    "no items from Retrieve when nothing is known of a user."
)


def _cold(user_id: str) -> list[tuple[str, common_pb2.UserFeatures]]:
    return [
        ("a user that nobody knows", common_pb2.UserFeatures(user_id=user_id)),
        (
            "an unknown user with a profile",
            common_pb2.UserFeatures(
                user_id=user_id, specialties=["cardiology"], country="DE", language="de"
            ),
        ),
        (
            "a user whose history holds unknown items",
            common_pb2.UserFeatures(
                user_id=user_id,
                history_item_ids=["model-check-no-item"] * 3,
                history_event_types=[2, 2, 2],  # type: ignore[list-item] # numbers
                history_times_unix_s=[1, 2, 3],
            ),
        ),
    ]


async def unknown(subject: Subject) -> Result:
    """Asks about people and things that nobody has heard of."""
    subject.need(Capability.SCORE, Capability.RETRIEVE, Capability.EMBED)
    rules, asks = Rules(), subject.asks
    items = asks.some(ITEMS)
    for who, user in _cold(f"model-check-nobody-{subject.seed}"):
        if subject.can(Capability.SCORE):
            await _scored(subject, rules, user, items, who)
        if subject.can(Capability.RETRIEVE):
            await _retrieved(subject, rules, user, who)
        if subject.can(Capability.EMBED):
            await _embedded(subject, rules, user, who)
    if subject.can(Capability.SCORE):
        nothing = [f"model-check-no-item-{n}" for n in range(ITEMS)]
        await _scored(subject, rules, asks.users[0], nothing, "items that nobody knows")
    return rules.result("what it does not know, it says it does not")


async def _scored(
    subject: Subject,
    rules: Rules,
    user: common_pb2.UserFeatures,
    items: list[str],
    who: str,
) -> None:
    try:
        answer = await subject.port.score(subject.asks.score(user, items))
    except CallFailedError as error:
        rules.hold(False, f"for {who} {error}", _unanswered(subject))
        return
    given = _given(answer)
    _finite(rules, given, "Score", who)
    finite = given[np.isfinite(given)]
    rules.hold(
        len(finite) < FAKE or bool((finite != 0).any()),
        f"for {who} Score gave 0 for all {len(finite)} items, as if that were an opinion",
        SAY,
    )


def _given(answer: model_pb2.ScoreResponse) -> Float64:
    """Scores that are not said to be missing."""
    missing = set(answer.missing)
    kept = [score for place, score in enumerate(answer.scores) if place not in missing]
    return np.array(kept, np.float64)


def _finite(rules: Rules, given: Float64, method: str, who: str) -> None:
    bad = given[~np.isfinite(given)]
    kind = "NaN" if np.isnan(bad).any() else "inf"
    rules.hold(not len(bad), f"for {who} {method} gave {kind} in {len(bad)} scores", SAY)


async def _retrieved(
    subject: Subject, rules: Rules, user: common_pb2.UserFeatures, who: str
) -> None:
    try:
        found = await subject.port.retrieve(subject.asks.retrieve(user, ITEMS))
    except CallFailedError as error:
        rules.hold(False, f"for {who} {error}", _unanswered(subject))
        return
    _finite(rules, np.array(found.scores, np.float64), "Retrieve", who)


async def _embedded(
    subject: Subject, rules: Rules, user: common_pb2.UserFeatures, who: str
) -> None:
    request = model_pb2.EmbedRequest(user=user, now_unix_s=subject.asks.now_unix_s)
    try:
        answer = await subject.port.embed(request)
    except CallFailedError as error:
        rules.hold(False, f"for {who} {error}", _unanswered(subject))
        return
    values = np.array(answer.values, np.float64)
    _finite(rules, values, "Embed", who)
    rules.hold(
        bool(answer.missing) or bool((values != 0).any()),
        f"for {who} Embed gave a vector of zeros, as if that were one",
        "Name a user that cannot be embedded in EmbedResponse.missing.",
    )


def _unanswered(subject: Subject) -> str:
    last = subject.last_error()
    log = f" Its log says last: {last}" if last else ""
    return f"Unknown users and items are no errors.{log} {SAY}"


CHECK = Check(
    id="unknown",
    title="Says what it does not know",
    measures=f"Unknown users (with a profile, with a history of unknown items) and {ITEMS} unknown "
    "items: answers are OK, finite, and not all exactly 0. No rule broken.",
    why="A faked 0 competes with real opinions of other models; NaN makes the whole answer an "
    "error. New doctors come every day.",
    run=unknown,
)
