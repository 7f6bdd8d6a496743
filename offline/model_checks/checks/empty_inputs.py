"""Empty inputs: nothing asked is nothing answered, not an error."""

from __future__ import annotations

from google.protobuf.message import Message

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.result import Result, Rules
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2, model_pb2


async def empty_inputs(subject: Subject) -> Result:
    """Sends requests with nothing in them, one part at a time."""
    subject.need(Capability.SCORE, Capability.RETRIEVE, Capability.EMBED)
    asks, rules = subject.asks, Rules()
    known = asks.users[0]
    bare = common_pb2.UserFeatures.FromString(known.SerializeToString())
    for name in ("specialties", "country", "language"):
        bare.ClearField(name)
    requests: list[tuple[str, str, Message]] = []
    if subject.can(Capability.SCORE):
        requests += [
            ("no items", "Score", asks.score(known, [])),
            ("a user without a profile", "Score", asks.score(bare, asks.some(5))),
            ("a query of blanks", "Score", asks.score(known, asks.some(5), query=" ")),
        ]
    if subject.can(Capability.RETRIEVE):
        requests += [
            ("a user without a profile", "Retrieve", asks.retrieve(bare, 5)),
            ("a query of blanks", "Retrieve", asks.retrieve(known, 5, query=" ")),
        ]
    if subject.can(Capability.EMBED):
        texts = model_pb2.TextBatch(texts=["", " "])
        requests.append(("empty texts", "Embed", model_pb2.EmbedRequest(texts=texts)))
    for what, method, request in requests:
        reply = await subject.port.call(method, request)
        rules.hold(
            reply.good,
            f"with {what}, {reply}",
            "Answer requests with nothing in them: no items are no scores.",
        )
        if reply.good and what == "no items":
            rules.hold(
                not reply.answer.scores,
                f"Score gave {len(reply.answer.scores)} scores for no items",
                "No items are no scores.",
            )
    return rules.result(f"{len(requests)} requests with nothing in them are answered")


CHECK = Check(
    id="empty-inputs",
    title="Takes empty inputs",
    measures="No items, no profile, a query of blanks, empty texts: answered OK, with nothing "
    "where nothing was asked. No rule broken. Users without a history: see unknown.",
    why="Such requests come every day; an error counts against the model until it is left out.",
    run=empty_inputs,
)
