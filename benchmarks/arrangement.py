"""Runs one arrangement of the same four models until its standard input closes.

``python -m benchmarks.arrangement NAME`` prints ``{"address": …}`` once it serves. Every
arrangement answers ``RecommendationService/Recommend`` with the same pipeline, policy and
models; they differ in what stands between the pipeline and the models:

- ``separate``     this mesh: replicas of their own, dialled directly
- ``colocated``    this mesh: the models in the orchestrator's replica
- ``handles``      Ray Serve as it comes: the orchestrator behind Serve's gRPC proxy, the models
                   behind Serve handles, default flags
- ``one-process``  one plain grpc.aio server, no Ray

``RECMESH_HOME`` holds the data set; with ``--real`` its trained models are used, else trivial
ones. ``--no-edge`` lets callers dial the orchestrator's replica instead of Envoy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import gRPCOptions

from benchmarks.trivial_model import CANDIDATES, NAMES, TrivialModel
from recmesh.deployments.address_book import AddressBookClient, Role
from recmesh.deployments.applications import RUNNING, deploy
from recmesh.deployments.catalog_app import catalog_application
from recmesh.deployments.discovery import follow
from recmesh.deployments.edge import EdgeSupervisor
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.deployments.mesh_config import (
    DEFAULT_CONFIG,
    MeshConfig,
    ModelTable,
    OrchestratorTable,
)
from recmesh.deployments.model_app import ModelReplica
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.orchestrator_app import NAME, OrchestratorReplica
from recmesh.deployments.orchestrator_server import OrchestratorServer
from recmesh.deployments.ray_cluster import leave_cluster, start_cluster
from recmesh.deployments.replica_scaling import deployment_options
from recmesh.models.model import Model
from recmesh.models.registry import MODELS, loader
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingRegistry
from recmesh.storage.home import Home
from recmesh.storage.milvus_index import MilvusIndex
from recmesh.storage.milvus_process import MilvusProcess
from recmesh.v1 import recommendation_pb2

TRIVIAL_POLICY = Path(__file__).with_name("policy.toml").resolve()
HOST = "127.0.0.1"
PROXY_PORT = 9000


def load(home: Home, name: str) -> Model:
    """A trained model, or a trivial one."""
    if name in NAMES:
        ids = Dataset.open(home.dataset).items["item_id"].slice(0, CANDIDATES).to_pylist()
        return TrivialModel(name, ids)
    return loader(name)(ArtifactStore(home.artifacts).load(name))


async def load_all(home: Home, names: list[str]) -> dict[str, ModelClient]:
    """Co-located models, warm."""
    clients: dict[str, ModelClient] = {}
    for name in names:
        client = InProcessModelClient(load(home, name))
        await client.warm_up()
        clients[name] = client
    return clients


class BenchmarkReplica(ModelReplica):
    """A model's replica."""

    @staticmethod
    def load(model_name: str, home: Home, version: str) -> Model:
        """A trained model, or a trivial one."""
        return load(home, model_name)


class BenchmarkOrchestrator(OrchestratorReplica):
    """An orchestrator that may hold trivial models."""

    @staticmethod
    async def load(home: Home, versions: dict[str, str]) -> dict[str, ModelClient]:
        """Trained models, or trivial ones."""
        return await load_all(home, list(versions))


class HandleModel:
    """A model behind a Serve handle."""

    async def __init__(self, home_root: str, name: str) -> None:  # type: ignore[misc]
        """Loads the model."""
        self._methods = ModelMethods(load(Home(Path(home_root)), name))
        await self._methods.warm_up()

    async def call(self, method: str, request: Any) -> Any:
        """One method of ModelService."""
        return await getattr(self._methods, method)(request)


class HandleModelClient:
    """A ModelClient over a Serve handle."""

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self._handle = handle

    def __getattr__(self, method: str) -> Any:
        async def call(request: Any = None, *, timeout_s: float) -> Any:
            async with asyncio.timeout(timeout_s):
                return await self._handle.call.remote(method, request)

        return call


class HandleOrchestrator:
    """The pipeline behind Serve's gRPC proxy, the models behind handles."""

    async def __init__(self, home_root: str, policy: str, index_uri: str, **handles: Any) -> None:  # type: ignore[misc]
        """Loads the data."""
        home = Home(Path(home_root))
        embedding = EmbeddingRegistry(home.vectors).live() if index_uri else None
        snapshot = Snapshot.of(Dataset.open(home.dataset), Policy.load(Path(policy)), embedding)
        clients: dict[str, Any] = {
            name.replace("_", "-"): HandleModelClient(name, handle)
            for name, handle in handles.items()
        }
        panel = ModelPanel(clients)
        await panel.refresh()
        self._mesh = Mesh(panel, MilvusIndex(index_uri) if index_uri else None, snapshot)

    async def Recommend(
        self, request: recommendation_pb2.RecommendRequest
    ) -> recommendation_pb2.RecommendResponse:
        """One page."""
        return await recommend(self._mesh, request, 5.0)


def _options(table: ModelTable | OrchestratorTable) -> dict[str, Any]:
    return deployment_options(
        (),
        min_replicas=1,
        max_replicas=1,
        num_cpus=table.num_cpus,
        target_inflight=table.target_inflight,
    )


def _ours(home: Home, policy: Path, index_uri: str, names: list[str], colocated: bool) -> list[Any]:
    inside = dict.fromkeys(names, "") if colocated else {}
    orchestrator = serve.deployment(BenchmarkOrchestrator).options(
        name=NAME, **_options(OrchestratorTable())
    )
    targets = [
        serve.RunTarget(
            orchestrator.bind(
                str(home.root), str(policy), index_uri, inside, {}, str(home.attribution_keys), HOST
            ),
            name=NAME,
            route_prefix=None,
        ),
        catalog_application(MeshConfig.load(DEFAULT_CONFIG), home, index_uri, HOST),
    ]
    if not colocated:
        for name in names:
            model = serve.deployment(BenchmarkReplica).options(name=name, **_options(ModelTable()))
            bound = model.bind(name, str(home.root), "", HOST)
            targets.append(serve.RunTarget(bound, name=f"model-{name}", route_prefix=None))
    return targets


async def run_ours(stack: AsyncExitStack, arguments: argparse.Namespace, index_uri: str) -> str:
    """This mesh; returns the address to call."""
    home = Home.from_environment()
    start_cluster(home, 4)
    stack.callback(leave_cluster)
    edge = EdgeSupervisor(EdgeConfig(address=f"{HOST}:0"))
    targets = _ours(
        home,
        arguments.policy,
        index_uri,
        arguments.models,
        colocated=arguments.name == "colocated",
    )
    states = await asyncio.to_thread(deploy, targets, 120, lambda _: None)
    for state in states:
        if state.state != RUNNING:
            raise SystemExit(f"{state.name}: {state.message}")
    (replica,) = next(state for state in states if state.name == NAME).replicas
    if arguments.no_edge:
        return replica.address
    await stack.enter_async_context(edge)
    edge.set_addresses([replica.address])
    following = asyncio.create_task(
        follow(
            AddressBookClient().replicas,
            {Role.ORCHESTRATOR: lambda found: edge.set_addresses(found.get(NAME, []))},
        )
    )
    stack.callback(following.cancel)
    await edge.wait_ready(20)
    return edge.address


def run_handles(stack: AsyncExitStack, arguments: argparse.Namespace, index_uri: str) -> str:
    """Ray Serve as it comes."""
    import ray

    home = Home.from_environment()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    stack.callback(ray.shutdown)
    serve.start(
        grpc_options=gRPCOptions(
            port=PROXY_PORT,
            grpc_servicer_functions=[
                "recmesh.v1.recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server"
            ],
        )
    )
    options = {"ray_actor_options": {"num_cpus": 0.2}, "max_ongoing_requests": 100}
    handles = {
        name.replace("-", "_"): serve.deployment(HandleModel)
        .options(name=name, **options)
        .bind(str(home.root), name)
        for name in arguments.models
    }
    orchestrator = serve.deployment(HandleOrchestrator).options(name=NAME, **options)
    serve.run(orchestrator.bind(str(home.root), str(arguments.policy), index_uri, **handles))
    return f"{HOST}:{PROXY_PORT}"


async def run_one_process(
    stack: AsyncExitStack, arguments: argparse.Namespace, index_uri: str
) -> str:
    """One plain grpc.aio server."""
    home = Home.from_environment()
    clients = await load_all(home, arguments.models)
    server = OrchestratorServer(home, clients, policy=arguments.policy, index_uri=index_uri)
    stack.push_async_callback(server.stop, 1.0)
    return f"{HOST}:{await server.start(f'{HOST}:0')}"


async def main() -> None:
    """Serves until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["separate", "colocated", "handles", "one-process"])
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--no-edge", action="store_true")
    arguments = parser.parse_args()
    arguments.models = list(MODELS) if arguments.real else list(NAMES)
    arguments.policy = DEFAULT_POLICY if arguments.real else TRIVIAL_POLICY
    async with AsyncExitStack() as stack:
        index_uri = ""
        if arguments.real:
            milvus = MilvusProcess(Home.from_environment().vectors / "milvus.db")
            index_uri = stack.enter_context(milvus).uri
        if arguments.name == "handles":
            address = await asyncio.to_thread(run_handles, stack, arguments, index_uri)
        elif arguments.name == "one-process":
            address = await run_one_process(stack, arguments, index_uri)
        else:
            address = await run_ours(stack, arguments, index_uri)
        print(json.dumps({"address": address}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
