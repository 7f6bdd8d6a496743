"""The writer of catalog, events and slots as a Ray Serve application of its own (ADR 0002).

One replica: the embedded database has one writer. Orchestrators ask it what was written.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import serve

from recmesh.deployments.address_book import AddressBookClient, Role
from recmesh.deployments.announcer import Announcer
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.discovery import follow
from recmesh.deployments.edge_services import CATALOG, FEEDBACK
from recmesh.deployments.external_model import dial, place_of
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import Method, add_service
from recmesh.deployments.mesh_config import (
    CampaignsTable,
    DecisionsTable,
    EventsTable,
    MeshConfig,
)
from recmesh.deployments.mesh_token import inside_only, mesh_token
from recmesh.deployments.orchestrator_server import colocated_models
from recmesh.deployments.ray_loopback import replica_host
from recmesh.deployments.replica_scaling import deployment_options
from recmesh.deployments.telemetry import telemetry
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import campaign_ledger_pb2, catalog_log_pb2, decision_log_pb2

NAME = Role.CATALOG.value
"""Name of the Serve application, of its deployment, and in the address book."""
LEDGER = campaign_ledger_pb2.DESCRIPTOR.services_by_name["CampaignLedgerService"]
DECISIONS = decision_log_pb2.DESCRIPTOR.services_by_name["DecisionLogService"]
LOG = catalog_log_pb2.DESCRIPTOR.services_by_name["CatalogLogService"]
VERSION = "1"
PREDECESSOR_S = 30.0
"""How long the writer before may take to leave the database."""


class CatalogReplica:
    """The writer on a free port of its node, known to the address book."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        home_root: str,
        database_uri: str,
        index_uri: str,
        embedder: tuple[str, str, dict[str, Any]],
        key_file: str,
        policy: str,
        campaigns: dict[str, float],
        decisions: dict[str, float],
        events: dict[str, float],
        host: str,
        telemetry_table: dict[str, Any] | None = None,
    ) -> None:
        """Raises what starting raises; Serve tells it as the reason.

        Args:
            home_root: folder of data, artifacts, and of the embedded database.
            database_uri: PostgreSQL; empty: the embedded one.
            index_uri: Milvus; empty: nothing is indexed.
            embedder: the language model's placement, version, and where it is if that is elsewhere.
            key_file: keys of attribution tokens.
            policy: file that says what campaigns may do until a version is promoted.
            campaigns: the table of the configuration.
            decisions: another.
            events: another.
            host: to listen on; empty: the node's address.
            telemetry_table: of the configuration; None: its defaults.
        """
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._telemetry = ExitStack()
        self._telemetry.enter_context(
            telemetry(telemetry_table or {}, NAME, instance=replica_id, on_ray=True)
        )
        home = Home(Path(home_root))
        token = mesh_token(home)
        self._embedder = await _embedder(home, token, *embedder)
        self._following: asyncio.Task[None] | None = None
        if isinstance(self._embedder, GrpcModelClient) and not self._embedder.pinned:
            client = self._embedder
            self._following = asyncio.create_task(
                follow(
                    AddressBookClient().replicas,
                    {Role.MODEL: lambda found: client.set_addresses(found.get(EMBEDDER, []))},
                ),
                name="follow-embedder",
            )
        tokens = AttributionTokens(SigningKeys.load_or_make(Path(key_file)))
        self._writer = CatalogWriter(
            home,
            database_uri,
            self._embedder,
            index_uri,
            tokens,
            policy=Path(policy),
            campaigns=CampaignsTable(**campaigns),
            decisions=DecisionsTable(**decisions),
            events=EventsTable(**events),
        )
        await self._writer.start(PREDECESSOR_S)
        self._server = GrpcServer(
            [service.full_name for service in (CATALOG, FEEDBACK, LOG, LEDGER, DECISIONS)],
            interceptors=inside_only(token),
        )
        add_service(self._server, CATALOG, self._writer.catalog_service, checked=True)
        feedback = self._writer.feedback
        add_service(
            self._server, FEEDBACK, feedback.offered, checked=True, streams=feedback.streams
        )
        read: dict[str, Method] = {
            "ReadChanges": self._writer.methods.read_changes,
            "ReadEvents": feedback.read_events,
        }
        add_service(self._server, LOG, read, checked=False)
        add_service(self._server, LEDGER, self._writer.campaigns.ledger_service, checked=True)
        add_service(self._server, DECISIONS, self._writer.decisions.offered, checked=True)
        host = replica_host(host)
        port = await self._server.start(f"{host}:0")
        self._announcer = Announcer(
            self._server,
            role=Role.CATALOG,
            application=NAME,
            replica_id=replica_id,
            address=f"{host}:{port}",
            version=VERSION,
        )

    async def check_health(self) -> None:
        """Asked by Serve; a replica that no longer announces itself is replaced."""
        self._announcer.check()

    async def __del__(self) -> None:
        """Awaited by Serve when the replica leaves: writes under way end first."""
        if not hasattr(self, "_announcer"):
            return
        await self._announcer.leave()
        if self._following is not None:
            self._following.cancel()
        await self._writer.close()
        if self._embedder is not None:
            await self._embedder.close()
        await asyncio.to_thread(self._telemetry.close)


async def _embedder(
    home: Home, token: str, placement: str, version: str, place: dict[str, Any]
) -> ModelClient | None:
    if placement == "external":
        return dial(EMBEDDER, place)
    if placement == "orchestrator":
        return (await colocated_models(home, {EMBEDDER: version})).get(EMBEDDER)
    # Nobody may run it now, and somebody later.
    return GrpcModelClient(EMBEDDER, [], token=token)


def catalog_application(
    config: MeshConfig, home: Home, index_uri: str, host: str = ""
) -> serve.RunTarget:
    """What Serve is to run for the catalog, listening on ``host``."""
    model = config.models.get(EMBEDDER)
    embedder = (model.placement, model.version, place_of(model)) if model else ("replicas", "", {})
    key_file = config.attribution.keys_of(home)
    arguments = (
        str(home.root.resolve()),
        config.database.uri,
        index_uri,
        embedder,
        str(key_file),
        str(config.orchestrator.policy_file),
        config.campaigns.model_dump(),
        config.decisions.model_dump(),
        config.events.model_dump(),
        host,
        config.telemetry.model_dump(),
    )
    options = deployment_options(
        (*arguments, SigningKeys.load_or_make(key_file).fingerprint),
        min_replicas=1,
        max_replicas=1,
        num_cpus=config.catalog.num_cpus,
        target_inflight=1,
        node_labels=config.catalog.node_labels,
    )
    # The next writer can only open the embedded database once this one has let go of it.
    options["max_surge_percent"] = 0
    deployment = serve.deployment(CatalogReplica).options(name=NAME, **options)
    return serve.RunTarget(deployment.bind(*arguments), name=NAME, route_prefix=None)
