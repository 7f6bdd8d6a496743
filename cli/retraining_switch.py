"""What went through the gate goes live; and back, when it must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recmesh.cli import embed_switch
from recmesh.cli.up import apply
from recmesh.deployments.address_book import Role
from recmesh.deployments.applications import ApplicationState
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry
from recmesh.storage.errors import ConfigurationError, RecMeshError
from recmesh.storage.home import Home


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a running mesh made of new live versions."""

    message: str
    failed: tuple[str, ...] = ()
    """Models whose new replicas do not run."""
    reached: bool = True
    """Whether the cluster answered."""


def make_live(home: Home, model: str, version: str, before: str, collection: str) -> None:
    """Makes a candidate live, if what it was compared with still is; twice is once.

    Args:
        home: folder of the installation.
        model: name.
        version: the candidate.
        before: the live version that it was compared with; empty: there was none.
        collection: of the embedding version built for it; empty for models without.

    Raises:
        ConfigurationError: another version went live meanwhile.
        UnavailableError: replicas in the running mesh do not speak the embedding version.
    """
    store = ArtifactStore(home.artifacts)
    now = store.live_version(model) if store.has_live(model) else ""
    if now not in (before, version):
        raise ConfigurationError(
            f"{model}@{now} went live meanwhile, and the candidate was compared with "
            f"{before or 'nothing'}; run it again"
        )
    if collection:
        embed_switch.switch(home, EmbeddingRegistry(home.vectors).get(collection))
    store.make_live(model, version)


def go_back(home: Home, model: str) -> str:
    """Makes the version before live again, and returns it.

    Raises:
        NotFoundError: there was none before.
    """
    if model == EMBEDDER:
        return embed_switch.rollback(home).artifact
    return ArtifactStore(home.artifacts).rollback(model)


def take_over(home: Home, models: Sequence[str]) -> TakenOver:
    """Replaces the models' replicas in the running mesh by ones of the live versions.

    No request fails meanwhile: new replicas answer before old ones leave.
    """
    running = running_mesh(home)
    if running is None:
        return TakenOver("no mesh runs here; the next recmesh up serves what is live")
    config = MeshConfig.load(Path(running.config), home)
    said: list[str] = []
    applications: dict[str, list[str]] = {}
    for model in models:
        table = config.models.get(model)
        if table is None or table.placement == "external":
            said.append(f"{model} is not the mesh's to deploy")
        elif table.version:
            said.append(f"{model} stays at {table.version}: {running.config} pins it")
        else:
            own = Role.ORCHESTRATOR.value if table.placement == "orchestrator" else model
            applications.setdefault(own, []).append(model)
    if EMBEDDER in models and not running.index_uri:
        said.append("it searches the new vectors after: recmesh down && recmesh up")
    failed: list[str] = []
    if applications:

        def unseen(step: str, states: list[ApplicationState]) -> None:
            """Deploying takes seconds; the stage is shown."""

        try:
            not_running = apply(running, list(applications), Path(running.config), home, unseen)
        except RecMeshError as error:
            named = " ".join(applications)
            return TakenOver(
                f"the running mesh did not take it over ({error}); run: recmesh up {named}",
                reached=False,
            )
        failed = [model for name in not_running for model in applications.get(name, [])]
        served = [m for ms in applications.values() for m in ms if m not in failed]
        if served:
            said.insert(0, f"the mesh on {running.address} serves the new {', '.join(served)}")
    return TakenOver("; ".join(said), tuple(failed))
