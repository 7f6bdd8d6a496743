"""The heaviest call that the contract allows, and how long others wait behind it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from google.protobuf.message import Message

from recmesh.models.model import Capability
from recmesh.offline.model_checks.model_port import CallFailedError
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2

MOST_CANDIDATES = 5000
MOST_HISTORY = 256
HELD_UP_S = 0.25
"""A page waits no longer than this for one model, whatever other callers did."""
PROBES = 5
TRIES = 3
"""A pause of the machine may hold up one; work that goes on holds up each."""
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class HeavyCall:
    """A call, and how it goes when nothing else is asked."""

    method: str
    request: Message
    took_s: float
    """Alone."""
    light_s: float
    """What a small call takes alone."""


def long_history(user: common_pb2.UserFeatures, n: int) -> common_pb2.UserFeatures:
    """The user with ``n`` events in their history, their own repeated."""
    longer = common_pb2.UserFeatures.FromString(user.SerializeToString())
    for name in ("history_item_ids", "history_event_types", "history_times_unix_s"):
        own = list(getattr(user, name))
        longer.ClearField(name)
        repeated = (own * (n // max(len(own), 1) + 1))[:n]
        getattr(longer, name).extend(sorted(repeated) if name.endswith("unix_s") else repeated)
    return longer


async def _light_s(subject: Subject) -> float:
    asks = subject.asks
    if subject.can(Capability.SCORE):
        reply = await subject.port.call(
            "Score", asks.score(asks.users[0], asks.some(1)), PATIENCE_S
        )
    else:
        reply = await subject.port.call("Retrieve", asks.retrieve(asks.users[0], 1), PATIENCE_S)
    if not reply.good:
        raise CallFailedError(reply)
    return reply.took_s


async def heavy_call(subject: Subject) -> HeavyCall:
    """Makes the call, and takes its time.

    Raises:
        CallFailedError: it is not answered.
    """
    asks = subject.asks
    user = long_history(asks.users[0], MOST_HISTORY)
    scores = subject.can(Capability.SCORE)
    method = "Score" if scores else "Retrieve"
    request: Message = (
        asks.score(user, asks.some(MOST_CANDIDATES))
        if scores
        else asks.retrieve(user, MOST_CANDIDATES)
    )
    times = []
    for _ in range(3):
        reply = await subject.port.call(method, request, PATIENCE_S)
        if not reply.good:
            raise CallFailedError(reply)
        times.append(reply.took_s)
    light_s = statistics.median([await _light_s(subject) for _ in range(PROBES)])
    return HeavyCall(method, request, min(times), light_s)


async def held_up_s(subject: Subject, heavy: HeavyCall) -> float:
    """How much longer than alone a small call takes now."""
    return max(await _light_s(subject) - heavy.light_s, 0.0)
