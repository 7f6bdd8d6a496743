"""Calls that a secure edge must refuse, each with its code: ``python -m benchmarks.refused_calls``.

A real Envoy before a real orchestrator. Every call carries personal data, planted; none of it may
be in a refusal, in the access log, or in Envoy's own words. Prints the table of docs/security.md;
ends with 1 where a call was not refused as it must be.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from recmesh.deployments.caller import CALLER_KEY, MESH_TOKEN_KEY, PRIORITY_KEY
from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.caller_table import CallerTable
from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.edge_services import edge_server
from recmesh.deployments.envoy_security import IDENTITY, WATCH
from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.v1 import recommendation_pb2
from tests.small_world import FunctionModel, dataset

DOCTOR = "d004242-planted"
RECOMMEND = "/recmesh.v1.RecommendationService/Recommend"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
CALLERS = {
    "feed-backend": CallerTable(
        methods=("RecommendationService/Recommend",), surfaces=("feed",), priority="critical"
    ),
    "event-pipeline": CallerTable(methods=("FeedbackService",)),
    "nightly-job": CallerTable(
        methods=("RecommendationService/Recommend",), requests_per_s=2, priority="batch"
    ),
}
MESH_TOKEN = "of-this-mesh"
HOUR = timedelta(hours=1)
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class SecureMesh:
    """A secure edge before one orchestrator."""

    edge: EdgeSupervisor
    replica: str
    """Address of the orchestrator itself."""
    folder: Path
    credentials: DevelopmentCredentials

    @property
    def access_log(self) -> Path:
        """Complete once the edge has stopped."""
        return self.folder / "access.log"

    def channel(self, caller: str = "", token: str = "", pair: tuple[bytes, bytes] | None = None):  # type: ignore[no-untyped-def]
        """To the edge, as a caller, or with a key and certificate of one's own."""
        if caller:
            files = self.credentials.caller(caller)
            pair = files.key.read_bytes(), files.certificate.read_bytes()
        secret = grpc.ssl_channel_credentials(
            self.credentials.authority.read_bytes(), *(pair or (None, None))
        )
        if token:
            given = grpc.access_token_call_credentials(token)
            secret = grpc.composite_channel_credentials(secret, given)
        return grpc.aio.secure_channel(self.edge.address, secret, [("grpc.enable_retries", 0)])

    def token(
        self,
        subject: str = "spiffe://recmesh/caller/feed-backend",
        key: ec.EllipticCurvePrivateKey | None = None,
        **claims: object,
    ) -> str:
        """A token as it should be, but for what is said; None takes a claim out."""
        known = serialization.load_pem_private_key(
            (self.credentials.authority.parent / "token.key").read_bytes(), None
        )
        now = datetime.now(UTC)
        said: dict[str, object] = {
            "sub": subject,
            "iss": "recmesh",
            "aud": "recmesh",
            "iat": now,
            "exp": now + HOUR,
        }
        said = {name: value for name, value in (said | claims).items() if value is not None}
        signer = key or known
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        return jwt.encode(said, signer, "ES256")


@asynccontextmanager
async def secure_mesh(folder: Path) -> AsyncIterator[SecureMesh]:
    """Runs while the context is open."""
    credentials = DevelopmentCredentials(folder / "credentials")
    stranger = CallerTable(methods=("RecommendationService",))
    credentials.make({**CALLERS, "stranger": stranger}, "")
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: int(item[1:]) / 10)})
    await models.refresh()
    mesh = Mesh(models, None, Snapshot.of(dataset(folder), Policy.load(), None))
    surfaces = CallerSurfaces({name: table.surfaces for name, table in CALLERS.items()})
    server = edge_server(mesh, token=MESH_TOKEN, surfaces=surfaces)
    replica = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    security = EdgeSecurity(
        certificate=credentials.edge.certificate,
        key=credentials.edge.key,
        authority=credentials.authority,
        token_keys=credentials.token_keys,
        callers=CALLERS,
        access_log=folder / "access.log",
        mesh_token=MESH_TOKEN,
    )
    edge = EdgeSupervisor(EdgeConfig(address="127.0.0.1:0", security=security), [replica])
    try:
        async with edge:
            await edge.wait_ready(TIMEOUT_S)
            yield SecureMesh(edge, replica, folder, credentials)
    finally:
        await server.stop(0)


def own_certificate(
    identity: str, signer: Path | None = None, ends: timedelta = HOUR
) -> tuple[bytes, bytes]:
    """Key and certificate of an identity, by the authority in a folder; None: by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    signing, issuer = key, subject
    if signer is not None:
        loaded = serialization.load_pem_private_key((signer / "authority.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing = loaded
        authority = x509.load_pem_x509_certificate((signer / "authority.pem").read_bytes())
        issuer = authority.subject
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    certificate = (
        x509.CertificateBuilder(
            issuer_name=issuer,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 24 * HOUR,
            not_valid_after=now + ends,
        )
        .add_extension(names, critical=False)
        .sign(signing, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    return key.private_bytes(pem, form, serialization.NoEncryption()), certificate.public_bytes(pem)


def page(surface: str = "feed", padding: int = 0) -> bytes:
    """A request with personal data in it."""
    return recommendation_pb2.RecommendRequest(
        surface=surface,
        user_id=DOCTOR,
        query=DOCTOR if surface == "search" else "",
        labels={"padding": "x" * padding} if padding else {},
    ).SerializeToString()


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
_OPERATOR = ((CALLER_KEY, "nightly-job"), (IDENTITY, "spiffe://recmesh/caller/nightly-job"))

UNKNOWN = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
NO_HANDSHAKE = grpc.StatusCode.UNAVAILABLE

Attempt = Callable[[SecureMesh], Awaitable[Reply]]

ATTEMPTS: dict[str, tuple[grpc.StatusCode, Attempt]] = {
    "no certificate and no token": (UNKNOWN, lambda m: ended(m.channel())),
    "plaintext": (NO_HANDSHAKE, lambda m: ended(grpc.aio.insecure_channel(m.edge.address))),
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


async def tried(folder: Path) -> Tried:
    """Makes every attempt against one mesh."""
    async with secure_mesh(folder) as mesh:
        replies = {name: await attempt(mesh) for name, (_, attempt) in ATTEMPTS.items()}
        good = await ended(mesh.channel("feed-backend"))
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
