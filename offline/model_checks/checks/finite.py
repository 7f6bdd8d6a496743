"""NaN and infinity: every number is one, at strange moments too."""

from __future__ import annotations

import numpy as np

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.model_port import Reply
from recmesh.offline.model_checks.result import Result, Rules
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2, model_pb2

YEAR_S = 365 * 86_400
FIX = (
    "Guard divisions, logarithms and exponentials: times may lie in the future or be 0, and an "
    "item may be read a thousand times at one moment. No opinion is said in missing."
)


def _strange(user: common_pb2.UserFeatures) -> common_pb2.UserFeatures:
    """All events at one moment, of a kind that does not exist yet."""
    strange = common_pb2.UserFeatures.FromString(user.SerializeToString())
    n = len(strange.history_item_ids)
    strange.ClearField("history_times_unix_s")
    strange.ClearField("history_event_types")
    strange.history_times_unix_s.extend([0] * n)
    strange.history_event_types.extend([2, 99, 0][place % 3] for place in range(n))  # type: ignore[misc] # numbers
    return strange


async def finite(subject: Subject) -> Result:
    """Asks about known users, now and at moments that should not occur."""
    subject.need(Capability.SCORE, Capability.RETRIEVE, Capability.EMBED)
    asks, rules = subject.asks, Rules()
    cases = [("usual requests", user, asks.now_unix_s) for user in asks.users]
    known = asks.users[0]
    cases += [
        ("now_unix_s 0, so that the history lies in the future", known, 0),
        ("now_unix_s in a thousand years", known, asks.now_unix_s + 1000 * YEAR_S),
        ("a history at moment 0 of unknown kinds", _strange(known), asks.now_unix_s),
    ]
    for what, user, now in cases:
        if subject.can(Capability.SCORE):
            request = asks.score(user, asks.some(200), now_unix_s=now)
            _all_finite(rules, await subject.port.call("Score", request), what)
        if subject.can(Capability.RETRIEVE):
            wanted = asks.retrieve(user, 200, now_unix_s=now)
            _all_finite(rules, await subject.port.call("Retrieve", wanted), what)
        if subject.can(Capability.EMBED):
            embed = model_pb2.EmbedRequest(user=user, now_unix_s=now)
            _all_finite(rules, await subject.port.call("Embed", embed), what)
    return rules.result(f"{rules.held} answers, every number finite")


def _all_finite(rules: Rules, reply: Reply, what: str) -> None:
    if not reply.good:
        rules.hold(False, f"with {what}, {reply}", FIX)
        return
    answer = reply.answer
    missing = set(getattr(answer, "missing", ()))
    values = np.array(answer.values if reply.method == "Embed" else answer.scores, np.float64)
    if reply.method == "Score":
        values = np.array([x for place, x in enumerate(values.tolist()) if place not in missing])
    bad = int((~np.isfinite(values)).sum())
    rules.hold(not bad, f"with {what}, {reply.method} gave NaN or inf in {bad} numbers", FIX)


CHECK = Check(
    id="finite",
    title="Answers numbers",
    measures="Scores and vectors of known users, at the usual moment, in 1970, in a thousand "
    "years, with all events at one moment and of unknown kinds: finite. No rule broken.",
    why="One NaN makes an answer an error, and sorts a page at random where it gets through.",
    run=finite,
)
