"""The orchestrator as a Ray Serve application that finds the models by their announcements."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import serve

from recmesh.deployments.address_book import AddressBookClient, Role
from recmesh.deployments.announcer import Announcer
from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.campaign_ledger_client import GrpcCampaignLedger
from recmesh.deployments.catalog_app import NAME as CATALOG
from recmesh.deployments.catalog_log_client import GrpcCatalogLogClient
from recmesh.deployments.discovery import follow
from recmesh.deployments.external_model import dial, external_models
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_token import mesh_token
from recmesh.deployments.orchestrator_server import (
    OrchestratorServer,
    colocated_models,
)
from recmesh.deployments.ray_loopback import replica_host
from recmesh.deployments.replica_scaling import INFLIGHT, deployment_options
from recmesh.deployments.telemetry import telemetry
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home
from recmesh.storage.signing_keys import SigningKeys

NAME = Role.ORCHESTRATOR.value
"""Name of the Serve application, of its deployment, and in the address book."""


class OrchestratorReplica:
    """One orchestrator on a free port of its node, known to the address book."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        home_root: str,
        policy: str,
        index_uri: str,
        colocated: dict[str, str],
        external: dict[str, dict[str, Any]],
        key_file: str,
        host: str,
        surfaces: dict[str, tuple[str, ...]] | None = None,
        telemetry_table: dict[str, Any] | None = None,
    ) -> None:
        """Raises what starting raises; Serve tells it as the reason.

        Args:
            home_root: folder of data, artifacts and the registry of embedding versions.
            policy: file.
            index_uri: Milvus; empty: no vector search.
            colocated: models to load into this process, and which version of each.
            external: models that run elsewhere, as external_models says them.
            key_file: keys of attribution tokens.
            host: to listen on; empty: the node's address.
            surfaces: that each caller may ask for; none: all. None: callers are not known.
            telemetry_table: of the configuration; None: its defaults.
        """
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._telemetry = ExitStack()
        self._telemetry.enter_context(
            telemetry(telemetry_table or {}, NAME, instance=replica_id, on_ray=True)
        )
        home = Home(Path(home_root))
        clients = await self.load(home, colocated)
        for name, place in external.items():
            clients[name] = dial(name, place)
        token = mesh_token(home)
        self._catalog = catalog = GrpcCatalogLogClient(token)
        ledger = GrpcCampaignLedger(token)

        def take_writer(found: Mapping[str, Sequence[str]]) -> None:
            catalog.set_addresses(found.get(CATALOG, []))
            ledger.set_addresses(found.get(CATALOG, []))

        self._orchestrator = OrchestratorServer(
            home,
            clients,
            policy=Path(policy),
            index_uri=index_uri,
            catalog=catalog,
            tokens=AttributionTokens(SigningKeys.load_or_make(Path(key_file))),
            ledger=ledger,
            token=token,
            surfaces=None if surfaces is None else CallerSurfaces(surfaces),
        )
        # Before the server starts: models that run already take part from the first request on.
        self._following = asyncio.create_task(
            follow(
                AddressBookClient().replicas,
                {
                    Role.MODEL: self._orchestrator.take,
                    Role.CATALOG: take_writer,
                },
            ),
            name="follow-replicas",
        )
        host = replica_host(host)
        port = await self._orchestrator.start(f"{host}:0")
        self._announcer = Announcer(
            self._orchestrator.server,
            role=Role.ORCHESTRATOR,
            application=NAME,
            replica_id=replica_id,
            address=f"{host}:{port}",
            version=self._orchestrator.policy_version,
        )

    @staticmethod
    async def load(home: Home, versions: dict[str, str]) -> dict[str, ModelClient]:
        """The models to load into this process."""
        return await colocated_models(home, versions)

    async def check_health(self) -> None:
        """Asked by Serve; a replica that no longer announces itself is replaced."""
        self._announcer.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve; see :mod:`recmesh.deployments.replica_scaling`."""
        return {INFLIGHT: self._orchestrator.server.meter.take_mean_inflight()}

    async def __del__(self) -> None:
        """Awaited by Serve when the replica leaves: new calls go elsewhere, old ones end."""
        if hasattr(self, "_announcer"):
            await self._announcer.leave()
            self._following.cancel()
            await self._orchestrator.close()
            await self._catalog.close()
        if hasattr(self, "_telemetry"):
            await asyncio.to_thread(self._telemetry.close)


def orchestrator_application(
    config: MeshConfig, home: Home, index_uri: str, host: str = ""
) -> serve.RunTarget:
    """What Serve is to run for the orchestrator, listening on ``host``.

    Raises:
        NotFoundError: nothing was ingested.
        ConfigurationError: the policy cannot work, or a certificate of an external model.
    """
    table = config.orchestrator
    colocated = {n: m.version for n, m in config.models.items() if m.placement == "orchestrator"}
    external = external_models(config)
    policy = str(table.policy_file)
    served = Policy.load(table.policy_file)
    policies = (served, PolicyStore(home.policies).resolve("", table.policy_file))
    key_file = config.attribution.keys_of(home)
    arguments = (
        str(home.root.resolve()),
        policy,
        index_uri,
        colocated,
        external,
        str(key_file),
        host,
        _surfaces(config, policies) if config.edge.secure else None,
        config.telemetry.model_dump(),
    )
    store = ArtifactStore(home.artifacts)
    # Replicas read these when they start: new ones are taken over by deploying again.
    read_at_start = (
        served.version,
        Dataset.open(home.dataset).version,
        SigningKeys.load_or_make(key_file).fingerprint,
        [store.live_version(name) for name in colocated if store.has_live(name)],
    )
    deployment = serve.deployment(OrchestratorReplica).options(
        name=NAME,
        **deployment_options(
            (*arguments, *read_at_start),
            min_replicas=table.min_replicas,
            max_replicas=table.max_replicas,
            num_cpus=table.num_cpus,
            target_inflight=table.target_inflight,
            node_labels=table.node_labels,
        ),
    )
    return serve.RunTarget(
        deployment.bind(*arguments),
        name=NAME,
        route_prefix=None,
    )


def _surfaces(config: MeshConfig, policies: Sequence[Policy]) -> dict[str, tuple[str, ...]]:
    """What each caller may ask for. A surface that no policy has would refuse it in silence."""
    known = dict.fromkeys(surface for policy in policies for surface in policy.surfaces)
    for name, caller in config.callers.items():
        for surface in caller.surfaces:
            if surface not in known:
                raise ConfigurationError(
                    f"callers.{name}.surfaces: the policy has no surface {surface!r}; it has "
                    f"{', '.join(known)}"
                )
    return {name: caller.surfaces for name, caller in config.callers.items()}
