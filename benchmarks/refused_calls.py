"""Calls that a secure edge must refuse, each with its code: ``python -m benchmarks.refused_calls``.

A real Envoy before a real orchestrator. Every call carries personal data, planted; none of it may
be in a refusal, in the access log, or in Envoy's own words. Prints the table of docs/security.md;
ends with 1 where a call was not refused as it must be.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.secure_mesh import (
    HOUR,
    MESH_TOKEN,
    TIMEOUT_S,
    SecureMesh,
    own_certificate,
    secure_mesh,
)
from recmesh.deployments.caller import (
    CALLER_KEY,
    EVENT_CALLERS_KEY,
    MESH_TOKEN_KEY,
    PRIORITY_KEY,
)
from recmesh.deployments.envoy_security import IDENTITY, WATCH
from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES
from recmesh.v1 import common_pb2, feedback_pb2, recommendation_pb2

DOCTOR = "d004242-planted"
RECOMMEND = "/recmesh.v1.RecommendationService/Recommend"
RECORD = "/recmesh.v1.FeedbackService/RecordEvents"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def page(surface: str = "feed", padding: int = 0) -> bytes:
    """A request with personal data in it."""
    return recommendation_pb2.RecommendRequest(
        surface=surface,
        user_id=DOCTOR,
        query=DOCTOR if surface == "search" else "",
        labels={"padding": "x" * padding} if padding else {},
    ).SerializeToString()


def events(recorded_as: str) -> bytes:
    """A batch with personal data in it."""
    event = feedback_pb2.Event(
        event_id=f"{DOCTOR}-1",
        event_type=common_pb2.EVENT_TYPE_SEARCH,
        user_id=DOCTOR,
        query=DOCTOR,
    )
    event.time.GetCurrentTime()
    return feedback_pb2.RecordEventsRequest(caller=recorded_as, events=[event]).SerializeToString()


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended."""

    code: grpc.StatusCode
    words: str


async def ended(
    channel: grpc.aio.Channel,
    path: str = RECOMMEND,
    request: bytes | None = None,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """Makes one call and closes the channel."""
    planted = (("x-request-id", DOCTOR), ("user-agent-note", DOCTOR), *metadata)
    async with channel:
        try:
            call = channel.unary_unary(path)
            await call(page() if request is None else request, timeout=TIMEOUT_S, metadata=planted)
        except grpc.aio.AioRpcError as error:
            return Reply(error.code(), error.details() or "")
        return Reply(grpc.StatusCode.OK, "")


def _replica(mesh: SecureMesh) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(mesh.replica)


def _signed_by(mesh: SecureMesh, identity: str, **how: timedelta) -> grpc.aio.Channel:
    folder = mesh.credentials.authority.parent
    return mesh.channel(pair=own_certificate(identity, folder, **how))


async def _often(mesh: SecureMesh) -> Reply:
    channel = mesh.channel("nightly-job")
    async with channel:
        call = channel.unary_unary(RECOMMEND)
        replies = await asyncio.gather(
            *(call(page(), timeout=TIMEOUT_S) for _ in range(6)), return_exceptions=True
        )
    refused = [one for one in replies if isinstance(one, grpc.aio.AioRpcError)]
    if not refused:
        return Reply(grpc.StatusCode.OK, "")
    return Reply(refused[0].code(), refused[0].details() or "")


FEED = "spiffe://recmesh/caller/feed-backend"
HEADERS = (
    (CALLER_KEY, "feed-backend"),
    (IDENTITY, FEED),
    (PRIORITY_KEY, "critical"),
    (MESH_TOKEN_KEY, MESH_TOKEN),
)
_ANYBODY = ((EVENT_CALLERS_KEY, "*"),)
_OPERATOR = ((CALLER_KEY, "nightly-job"), (IDENTITY, "spiffe://recmesh/caller/nightly-job"))

UNKNOWN = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
NO_HANDSHAKE = grpc.StatusCode.UNAVAILABLE

Attempt = Callable[[SecureMesh], Awaitable[Reply]]

ATTEMPTS: dict[str, tuple[grpc.StatusCode, Attempt]] = {
    "no certificate and no token": (UNKNOWN, lambda m: ended(m.channel())),
    "plaintext": (NO_HANDSHAKE, lambda m: ended(grpc.aio.insecure_channel(m.address))),
    "certificate past its time": (
        NO_HANDSHAKE,
        lambda m: ended(_signed_by(m, FEED, ends=-HOUR)),
    ),
    "certificate of another authority": (
        NO_HANDSHAKE,
        lambda m: ended(m.channel(pair=own_certificate(FEED))),
    ),
    "certificate of a caller without a table": (DENIED, lambda m: ended(m.channel("stranger"))),
    "certificate whose name only begins as a caller's": (
        DENIED,
        lambda m: ended(_signed_by(m, f"{FEED}-2")),
    ),
    "token signed with another key": (
        UNKNOWN,
        lambda m: ended(m.channel(token=m.token(key=ec.generate_private_key(ec.SECP256R1())))),
    ),
    "token without a signature (alg none)": (
        UNKNOWN,
        lambda m: ended(
            m.channel(
                token=jwt.encode(
                    jwt.decode(m.token(), options={"verify_signature": False}), None, "none"
                )
            )
        ),
    ),
    "token past its time": (
        UNKNOWN,
        lambda m: ended(m.channel(token=m.token(exp=datetime.now(UTC) - HOUR))),
    ),
    "token that never ends": (UNKNOWN, lambda m: ended(m.channel(token=m.token(exp=None)))),
    "token for another audience": (UNKNOWN, lambda m: ended(m.channel(token=m.token(aud="x")))),
    "token of another issuer": (UNKNOWN, lambda m: ended(m.channel(token=m.token(iss="x")))),
    "token of a caller without a table": (
        DENIED,
        lambda m: ended(m.channel(token=m.token("spiffe://recmesh/caller/stranger"))),
    ),
    "damaged token beside a good certificate": (
        UNKNOWN,
        lambda m: ended(m.channel("feed-backend", token="a.b.c")),
    ),
    "headers of the edge, stated by the caller": (
        UNKNOWN,
        lambda m: ended(m.channel(), metadata=HEADERS),
    ),
    "headers of another caller beside one's own certificate": (
        DENIED,
        lambda m: ended(m.channel("feed-backend"), RECOMMEND, page("search"), _OPERATOR),
    ),
    "method not given to the caller": (DENIED, lambda m: ended(m.channel("event-pipeline"))),
    "method of the mesh's own services": (
        DENIED,
        lambda m: ended(m.channel("feed-backend"), "/recmesh.v1.TrialService/ReadTrials"),
    ),
    "path that is no method": (
        DENIED,
        lambda m: ended(m.channel("feed-backend"), f"/recmesh.v1.RecommendationService/{DOCTOR}"),
    ),
    "reflection without credentials": (UNKNOWN, lambda m: ended(m.channel(), REFLECT)),
    "watching health without credentials": (UNKNOWN, lambda m: ended(m.channel(), WATCH, b"")),
    "surface not given to the caller": (
        DENIED,
        lambda m: ended(m.channel("feed-backend"), RECOMMEND, page("search")),
    ),
    "events recorded as another caller's": (
        DENIED,
        lambda m: ended(m.channel("event-pipeline"), RECORD, events(DOCTOR), _ANYBODY),
    ),
    "more requests a second than the caller's quota": (EXHAUSTED, _often),
    "message above 4 MiB": (
        EXHAUSTED,
        lambda m: ended(m.channel("feed-backend"), RECOMMEND, page(padding=MAX_MESSAGE_BYTES)),
    ),
    "a replica's port, past the edge": (UNKNOWN, lambda m: ended(_replica(m))),
    "a replica's port with a guessed token": (
        UNKNOWN,
        lambda m: ended(_replica(m), metadata=((MESH_TOKEN_KEY, "guess"), *HEADERS[:3])),
    ),
}
"""What is tried, by what it is: the code that must come, and how."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of all attempts."""

    replies: dict[str, Reply]
    good: Reply
    """To a call that is as it should be, after all others."""
    written: str
    """The access log, and what Envoy said."""


async def replies_of(mesh: SecureMesh) -> tuple[dict[str, Reply], Reply]:
    """Makes every attempt, then a call that is as it should be."""
    replies = {name: await attempt(mesh) for name, (_, attempt) in ATTEMPTS.items()}
    return replies, await ended(mesh.channel("feed-backend"))


async def tried(folder: Path) -> Tried:
    """Makes every attempt against one mesh."""
    async with secure_mesh(folder) as mesh:
        replies, good = await replies_of(mesh)
        said = mesh.edge.words()
    return Tried(replies, good, mesh.access_log.read_text() + said)


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory(prefix="refused-") as folder:
        found = asyncio.run(tried(Path(folder)))
    print("| call | refused with | who refuses it says |")
    print("|---|---|---|")
    wrong = []
    for name, (code, _) in ATTEMPTS.items():
        reply = found.replies[name]
        words = "" if code is NO_HANDSHAKE else reply.words
        print(f"| {name} | {reply.code.name} | {words or 'the TLS handshake fails'} |")
        if reply.code is not code or DOCTOR in reply.words:
            wrong.append(name)
    print(f"\n{len(ATTEMPTS) - len(wrong)} of {len(ATTEMPTS)} calls refused as they must be.")
    if DOCTOR in found.written:
        wrong.append("personal data is in what the edge writes")
    if found.good.code is not grpc.StatusCode.OK:
        wrong.append("a call as it should be is refused, too")
    if wrong:
        sys.exit(f"not as it must be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
