"""Huge inputs: the contract's limits are answered, more than them is refused or answered."""

from __future__ import annotations

from google.protobuf.message import Message

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.heavy_call import MOST_CANDIDATES, MOST_HISTORY, long_history
from recmesh.offline.model_checks.result import Result, Rules
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import model_pb2

BEYOND_HISTORY = 2000
MOST_QUERY_BYTES = 4000
MOST_S = 5.0
REFUSED = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")


async def huge_inputs(subject: Subject) -> Result:
    """Asks as much as is allowed, then more."""
    subject.need(Capability.SCORE, Capability.RETRIEVE, Capability.EMBED)
    asks, rules = subject.asks, Rules()
    user = long_history(asks.users[0], MOST_HISTORY)
    beyond = long_history(asks.users[0], BEYOND_HISTORY)
    query = ("heart failure " * MOST_QUERY_BYTES)[:MOST_QUERY_BYTES]
    items = asks.some(MOST_CANDIDATES)
    allowed: list[tuple[str, str, Message]] = []
    more: list[tuple[str, str, Message]] = []
    if subject.can(Capability.SCORE):
        allowed += [
            (f"{MOST_CANDIDATES} candidates", "Score", asks.score(user, items)),
            (
                f"a query of {MOST_QUERY_BYTES} bytes",
                "Score",
                asks.score(user, items[:200], query=query),
            ),
        ]
        more.append(("a history of 2000", "Score", asks.score(beyond, items[:200])))
    if subject.can(Capability.RETRIEVE):
        allowed += [
            (f"limit {MOST_CANDIDATES}", "Retrieve", asks.retrieve(user, MOST_CANDIDATES)),
            (
                f"a query of {MOST_QUERY_BYTES} bytes",
                "Retrieve",
                asks.retrieve(user, 200, query=query),
            ),
        ]
        more.append(("a history of 2000", "Retrieve", asks.retrieve(beyond, 200)))
    if subject.can(Capability.EMBED):
        texts = model_pb2.TextBatch(texts=[query] * 8)
        allowed.append(("8 texts of 4000 bytes", "Embed", model_pb2.EmbedRequest(texts=texts)))
    slowest_s = 0.0
    for what, method, request in (*allowed, *more):
        reply = await subject.port.call(method, request, MOST_S)
        slowest_s = max(slowest_s, reply.took_s)
        legal = (what, method, request) in allowed
        rules.hold(
            reply.good or (not legal and reply.code.name in REFUSED),
            f"with {what}, {reply}",
            f"Answer what the contract allows within {MOST_S:.0f} s; refuse more with "
            "INVALID_ARGUMENT, or read the newest part of it.",
        )
        if reply.good and method == "Score":
            asked = len(request.item_ids)  # type: ignore[attr-defined]
            rules.hold(
                len(reply.answer.scores) == asked,
                f"Score gave {len(reply.answer.scores)} scores for {asked} items",
                "Score everything that is asked.",
            )
    after = await subject.port.call("Describe", model_pb2.DescribeRequest())
    rules.hold(after.good, f"after that, {after}", "Survive large requests: set a memory limit.")
    return rules.result(f"answered, the slowest in {slowest_s * 1e3:.0f} ms")


CHECK = Check(
    id="huge-inputs",
    title="Takes huge inputs",
    measures=f"{MOST_CANDIDATES} candidates, {MOST_HISTORY} events, queries of {MOST_QUERY_BYTES} "
    f"bytes are answered within {MOST_S:.0f} s; a history of {BEYOND_HISTORY}, more than the "
    "contract allows, is answered or refused, and the server lives on. No rule broken.",
    why="The largest request comes on the worst day.",
    run=huge_inputs,
)
