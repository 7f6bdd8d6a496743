"""One orchestrator that serves: snapshot, models, vector index and gRPC server together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import structlog

from recmesh.deployments.action_recorder import ActionRecorder
from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.catalog_follower import CatalogFollower
from recmesh.deployments.catalog_log_client import CatalogLogClient
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.decision_recorder import DecisionRecorder
from recmesh.deployments.edge_services import edge_server
from recmesh.deployments.embedding_follower import EmbeddingFollower
from recmesh.deployments.event_follower import EventFollower
from recmesh.deployments.experiment_follower import ExperimentFollower
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.deployments.pacing_follower import PacingFollower
from recmesh.deployments.policy_follower import PolicyFollower
from recmesh.deployments.trial_stopper import TrialStopper
from recmesh.models.registry import loader
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignLedger
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.live_snapshot import LiveSnapshot
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import BESIDE, ModelPanel
from recmesh.orchestrator.overload.adaptive_limit import AdaptiveLimit
from recmesh.orchestrator.overload.loop_lag import tell_lag
from recmesh.orchestrator.overload.priority_gate import PriorityGate
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry, EmbeddingVersion
from recmesh.storage.errors import NotFoundError, RecMeshError
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.signing_keys import SigningKeys
from recmesh.storage.telemetry.mesh_measures import (
    EMBEDDING,
    MEASURES,
    MODEL_CALLS_IN_FLIGHT,
    MODEL_REPLICAS,
    SHED,
)
from recmesh.storage.vector_index import IndexQuery

log = structlog.get_logger(__name__)

WARM_UP_TIMEOUT_S = 5.0
BESIDE_SILENCE_S = 10.0
CATCH_UP_S = 10.0
"""How long a start waits to know what callers wrote, before it serves without and says so."""


def live_embedding(home: Home) -> EmbeddingVersion | None:
    """The embedding version that is searched; None, with a warning, when nothing is indexed."""
    try:
        return EmbeddingRegistry(home.vectors).live()
    except NotFoundError as error:
        log.warning("vector search left out", reason=str(error))
        return None


async def colocated_models(home: Home, versions: Mapping[str, str]) -> dict[str, ModelClient]:
    """Loads models into this process, ready to answer; an empty version is the live one.

    A model that was never trained is left out with a warning; pages say they lack it.
    """
    store = ArtifactStore(home.artifacts)
    clients: dict[str, ModelClient] = {}
    for name, version in versions.items():
        try:
            artifact = await asyncio.to_thread(store.load, name, version)
        except NotFoundError as error:
            log.warning("model left out", model=name, reason=str(error))
            continue
        client = InProcessModelClient(await asyncio.to_thread(loader(name), artifact))
        await client.warm_up()
        if name == EMBEDDER:
            await client.speak_all(home)
        clients[name] = client
    return clients


class OrchestratorServer:
    """Answers requests once started. Belongs to the event loop that starts it."""

    def __init__(
        self,
        home: Home,
        clients: Mapping[str, ModelClient],
        *,
        policy: Path = DEFAULT_POLICY,
        index_uri: str = "",
        catalog: CatalogLogClient | None = None,
        writer: CatalogWriter | None = None,
        tokens: AttributionTokens | None = None,
        ledger: CampaignLedger | None = None,
        token: str = "",
        surfaces: CallerSurfaces | None = None,
    ) -> None:
        """What it works with.

        Args:
            home: folder of data and of the registry of embedding versions.
            clients: models known from the start.
            policy: file; serves until a version of the home folder's policies is promoted.
            index_uri: Milvus; empty: no vector search.
            catalog: whom to ask what callers wrote; None: only what was ingested is served.
            writer: of catalog and events, started, where it runs in this process.
            tokens: sign pages; None: with the keys in the home folder.
            ledger: of sponsored slots, which this closes; None: there are none.
            token: of the mesh, which calls to this and to models need; empty: it has none.
            surfaces: that callers may ask for; None: callers are not known.
        """
        self._home = home
        self._policy = policy
        self._index_uri = index_uri
        self._catalog = catalog
        self._writer = writer
        self._tokens = tokens
        self._ledger = ledger
        self._token = token
        self._surfaces = surfaces
        self._panel = ModelPanel(dict(clients))
        self._heard_s: dict[str, float] = {}
        """When versions beside the live ones were announced last; monotonic clock."""
        self._closing_clients: set[asyncio.Task[None]] = set()
        self._closing = contextlib.AsyncExitStack()

    async def start(self, address: str) -> int:
        """Loads the data and listens on ``host:port``; port 0 picks a free one.

        Returns:
            The port.

        Raises:
            NotFoundError: nothing was ingested.
            ConfigurationError: the policy cannot work, or the address is taken.
        """
        policies = PolicyStore(self._home.policies)
        policy = policies.resolve("", self._policy)
        tokens = self._tokens or AttributionTokens(
            SigningKeys.load_or_make(self._home.attribution_keys)
        )
        dataset = Dataset.open(self._home.dataset)
        self.embedding = live_embedding(self._home) if self._index_uri else None
        index = None
        if self.embedding is not None:
            index = MilvusIndex(self._index_uri)
            self._closing.push_async_callback(index.close)
            await self._warm_up(index, self.embedding)
        read_up, recorder = None, None
        if self._catalog is None:
            snapshot = await asyncio.to_thread(Snapshot.of, dataset, policy, self.embedding)
            mesh = Mesh(self._panel, index, snapshot, tokens=tokens)
        else:
            live = await asyncio.to_thread(LiveSnapshot, dataset, policy, self.embedding)
            mesh = Mesh(self._panel, index, live.current, tokens=tokens)
            follower = CatalogFollower(self._catalog, mesh, live, self._home.dataset)
            events = EventFollower(self._catalog, mesh)
            await asyncio.gather(follower.catch_up(CATCH_UP_S), events.catch_up(CATCH_UP_S))
            for name, run in (("follow-catalog", follower.run()), ("follow-events", events.run())):
                self._closing.callback(asyncio.create_task(run, name=name).cancel)
            read_up = events.take_now
            recorder = ActionRecorder(self._catalog)
            self._closing.push_async_callback(recorder.close)
            mesh.decisions = DecisionRecorder(self._catalog)
            self._closing.push_async_callback(mesh.decisions.close)
        if self._ledger is not None:
            mesh.ledger = self._ledger
            self._closing.push_async_callback(self._ledger.close)
            pacing = PacingFollower(self._ledger, mesh.pacing)
            await pacing.catch_up(CATCH_UP_S)
            self._closing.callback(asyncio.create_task(pacing.run(), name="follow-pacing").cancel)
        await self._panel.refresh()
        refreshing = asyncio.create_task(self._panel.refresh_forever(), name="describe-models")
        self._closing.callback(refreshing.cancel)
        if index is not None:
            registry = EmbeddingRegistry(self._home.vectors)
            switching = EmbeddingFollower(registry, mesh, partial(self._warm_up, index)).run()
            self._closing.callback(asyncio.create_task(switching, name="follow-embedding").cancel)
        await self._follow_experiments(policies, mesh, index)
        promoting = PolicyFollower(policies, mesh, self._policy).run()
        self._closing.callback(asyncio.create_task(promoting, name="follow-policy").cancel)
        gate = PriorityGate(AdaptiveLimit())
        lag = asyncio.create_task(tell_lag(gate.limit.lagging), name="tell-lag")
        self._closing.callback(lag.cancel)
        self.server = edge_server(
            mesh,
            self._writer,
            recorder,
            read_up,
            gate,
            token=self._token,
            surfaces=self._surfaces,
        )
        self._closing.enter_context(
            MEASURES.refreshed_by(lambda: self._refresh_measures(mesh, gate))
        )
        self.policy_version = policy.version
        return await self.server.start(address)

    def _refresh_measures(self, mesh: Mesh, gate: PriorityGate) -> None:
        clients = {
            name: client
            for name, client in list(self._panel.clients.items())
            if isinstance(client, GrpcModelClient)
        }
        MODEL_CALLS_IN_FLIGHT.replace({(name,): c.in_flight for name, c in clients.items()})
        replicas: dict[tuple[str, ...], float] = {}
        for name, client in clients.items():
            replicas[name, "asked"], replicas[name, "left_alone"] = client.replicas()
        MODEL_REPLICAS.replace(replicas)
        embedding = mesh.snapshot.embedding
        EMBEDDING.replace({(EMBEDDER, embedding.version): 1.0} if embedding else {})
        for priority, count in list(gate.shed.items()):
            SHED.grown_to(count, priority.name.lower())

    async def _follow_experiments(
        self, policies: PolicyStore, mesh: Mesh, index: MilvusIndex | None
    ) -> None:
        follower = ExperimentFollower(ExperimentStore(self._home.experiments), policies, mesh)
        if index is not None:
            follower.registry = EmbeddingRegistry(self._home.vectors)
            follower.warm_up = partial(self._warm_up, index)
        # Before the first request: a restart must not take units out of their arms.
        await follower.look()
        guard = TrialStopper(follower.store, mesh)
        for name, run in (("follow-experiments", follower.run()), ("guard-trials", guard.run())):
            self._closing.callback(asyncio.create_task(run, name=name).cancel)
        self._closing.push_async_callback(mesh.shadows.close)

    async def _warm_up(self, index: MilvusIndex, embedding: EmbeddingVersion) -> bool:
        """Connects and loads the collection now, not within the first request's deadline.

        Returns whether it answers.
        """
        probe = IndexQuery(np.eye(1, embedding.dim, dtype=np.float32), "warm up")
        try:
            await index.search(embedding.collection, probe, 1, timeout_s=WARM_UP_TIMEOUT_S)
        except RecMeshError as error:
            log.warning("vector index not ready", reason=str(error))
            return False
        return True

    def take(self, addresses: Mapping[str, Sequence[str]]) -> None:
        """Learns where models are; one not heard of before takes part from now on.

        Models that are co-located or have fixed addresses stay where they are. A version beside
        the live one that nobody announces any more is forgotten after a while: it was removed.
        """
        self._forget_silent(addresses)
        for name, found in addresses.items():
            # An address of a replica that died may be another model's now, whose answers
            # would pass for the first one's.
            for other, known in self._panel.clients.items():
                if other != name and isinstance(known, GrpcModelClient) and not known.pinned:
                    known.forget(found)
            client = self._panel.clients.get(name)
            if client is None:
                self._panel.join(name, GrpcModelClient(name, found, token=self._token))
                log.info("model_joined", model=name, replicas=len(found))
            elif isinstance(client, GrpcModelClient) and not client.pinned:
                client.set_addresses(found)

    def _forget_silent(self, addresses: Mapping[str, Sequence[str]]) -> None:
        now_s = time.monotonic()
        for name in [name for name in self._panel.clients if BESIDE in name]:
            if addresses.get(name):
                self._heard_s[name] = now_s
            elif now_s - self._heard_s.setdefault(name, now_s) > BESIDE_SILENCE_S:
                closing = asyncio.create_task(self._panel.leave(name).close(), name=f"close-{name}")
                self._closing_clients.add(closing)
                closing.add_done_callback(self._closing_clients.discard)
                log.info("model_left", model=name)

    async def stop(self, grace_s: float) -> None:
        """Ends the server, then everything it used."""
        if hasattr(self, "server"):
            await self.server.stop(grace_s)
        await self.close()

    async def close(self) -> None:
        """Lets go of models and index, once the server has stopped."""
        await self._closing.aclose()
        for client in self._panel.clients.values():
            await client.close()
