"""A secure edge before one orchestrator, with callers and credentials, good and bad."""

from __future__ import annotations

from collections.abc import AsyncIterator
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

from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.caller_table import CallerTable
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.edge_services import edge_server
from recmesh.deployments.envoy_config import CATALOG
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from tests.small_world import FunctionModel, dataset

CALLERS = {
    "feed-backend": CallerTable(
        methods=("RecommendationService/Recommend",), surfaces=("feed",), priority="critical"
    ),
    "event-pipeline": CallerTable(methods=("FeedbackService",), event_callers=("mobile-app",)),
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

    address: str
    """Of the edge."""
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
        return grpc.aio.secure_channel(self.address, secret, [("grpc.enable_retries", 0)])

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


@dataclass(frozen=True, slots=True)
class SupervisedMesh(SecureMesh):
    """Its Envoy runs beside us."""

    edge: EdgeSupervisor


@asynccontextmanager
async def orchestrator(folder: Path) -> AsyncIterator[str]:
    """One that knows the callers and writes events; its address, while the context is open."""
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: int(item[1:]) / 10)})
    await models.refresh()
    mesh = Mesh(models, None, Snapshot.of(dataset(folder), Policy.load(), None))
    tokens = AttributionTokens(SigningKeys.random())
    writer = CatalogWriter(Home(folder / "home"), "", None, "", tokens)
    await writer.start()
    surfaces = CallerSurfaces({name: table.surfaces for name, table in CALLERS.items()})
    server = edge_server(mesh, writer, token=MESH_TOKEN, surfaces=surfaces)
    try:
        yield f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    finally:
        await server.stop(0)
        await writer.close()


def credentials_in(folder: Path) -> DevelopmentCredentials:
    """Of the callers, and of a stranger who has no table."""
    made = DevelopmentCredentials(folder / "credentials")
    made.make({**CALLERS, "stranger": CallerTable(methods=("RecommendationService",))}, "")
    return made


@asynccontextmanager
async def secure_mesh(folder: Path) -> AsyncIterator[SupervisedMesh]:
    """Runs while the context is open."""
    credentials = credentials_in(folder)
    (folder / "mesh-token").write_text(MESH_TOKEN)
    security = EdgeSecurity(
        certificate=credentials.edge.certificate,
        key=credentials.edge.key,
        authority=credentials.authority,
        token_keys=credentials.token_keys,
        callers=CALLERS,
        access_log=folder / "access.log",
        mesh_token=folder / "mesh-token",
    )
    async with orchestrator(folder) as replica:
        edge = EdgeSupervisor(EdgeConfig(address="127.0.0.1:0", security=security), [replica])
        edge.update([replica], CATALOG)
        async with edge:
            await edge.wait_ready(TIMEOUT_S)
            yield SupervisedMesh(edge.address, replica, folder, credentials, edge)


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
