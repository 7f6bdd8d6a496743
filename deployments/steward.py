"""Keeps a mesh as its owners want it where no process of ``recmesh up`` does: in a Ray cluster.

KubeRay starts the mesh's own applications. Models are not among them: one list of all models would
be one file that all owners write, and one model that fails would hold up everybody's upgrade. So
this application runs them, a round every few seconds, from what owners say:

- files ``NAME.toml`` in a folder, of the form that ``recmesh model deploy FILE`` takes;
- what else the mesh's configuration names, at its live version.

A round changes nothing where everything serves as wanted. It also records the mesh in the home
folder while no other does, so that commands find it as on one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from ray import serve
from ray.exceptions import RayError

from recmesh.deployments import applications
from recmesh.deployments.applications import DEPLOY_TIMEOUT_S, FAILED, RUNNING
from recmesh.deployments.deploy_model import deploy_model
from recmesh.deployments.deployed_models import DeployedModel, OwnReplicas
from recmesh.deployments.mesh_config import MeshConfig, ModelTable
from recmesh.deployments.mesh_record import MeshRecord, only_mesh, recorded
from recmesh.deployments.model_app import ModelRun, application_of
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.deployments.rollout import runs, state_of
from recmesh.deployments.trial_applications import trial_applications
from recmesh.storage.errors import ConfigurationError, NotFoundError, RecMeshError
from recmesh.storage.home import Home

log = structlog.get_logger(__name__)

NAME = "steward"
"""Name of the Serve application and of its deployment, and of who deployed in the history."""
ROUND_S = 5.0
RETRY_S = 300.0
"""What failed is tried again after this, or once its owner says something else."""
RAY_ADDRESS = "auto"
"""Whoever reads the record runs on a node of the cluster."""


class Steward:
    """One round after another. Blocks; belongs to one thread."""

    def __init__(
        self,
        home: Home,
        file: Path,
        owners: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``file`` configures the mesh; ``owners`` is the folder of their files."""
        config = MeshConfig.load(file, home)
        self._owners = owners
        self._clock = clock
        self._home = home
        self._record = MeshRecord(
            os.getpid(),
            config.edge.address,
            RAY_ADDRESS,
            config.vector_index.uri,
            str(file),
            secure=config.edge.secure,
            otlp_endpoint=config.telemetry.otlp_endpoint,
        )
        self._mesh = OwnersMesh(home, self._record, file, NAME, lambda _, __: None)
        self._held = contextlib.ExitStack()
        self._holds = False
        self._failed: dict[str, tuple[str, float]] = {}
        self._amiss: set[str] = set()

    def start(self) -> None:
        """Runs every model at once, and leaves out what does not come up: pages say so."""
        config = self._config()
        wanted = [run for name in config.models if (run := self._run(name, None)) is not None]
        targets = [run.target for run in wanted if not runs(state_of(run.target.name), run)]
        targets += trial_applications(config, self._home, "")
        if targets:
            for state in applications.deploy(targets, DEPLOY_TIMEOUT_S, lambda _: None):
                if state.state != RUNNING:
                    # KubeRay takes a cluster for ready once all of its applications run.
                    log.error("model_left_out", model=state.name, reason=state.message)
                    serve.delete(state.application)

    def round(self) -> list[str]:
        """Makes the mesh as it is wanted; returns the models that were changed."""
        self._hold_record()
        wishes = self._wishes()
        changed = []
        for name in dict.fromkeys([*wishes, *self._config().models]):
            try:
                if self._changed(name, wishes.get(name)):
                    changed.append(name)
            except (RecMeshError, RayError) as error:
                log.error("model_not_deployed", model=name, reason=str(error))
        return changed

    def close(self) -> None:
        """Another may record its mesh now."""
        self._held.close()

    def _config(self) -> MeshConfig:
        return MeshConfig.load(self._mesh.file, self._home)

    def _hold_record(self) -> None:
        if self._holds:
            return
        with contextlib.suppress(ConfigurationError):
            # Another cluster's steward holds it until that cluster ends.
            self._held.enter_context(only_mesh(self._home))
            self._held.enter_context(recorded(self._home, self._record))
            self._holds = True

    def _wishes(self) -> dict[str, DeployedModel]:
        found: dict[str, DeployedModel] = {}
        for file in sorted(self._owners.glob("*.toml")) if self._owners else ():
            try:
                wish = DeployedModel.load(file)
            except ConfigurationError as error:
                log.error("owners_file_left_out", file=file.name, reason=str(error))
                continue
            if wish.name != file.stem:
                # Whoever may write cf.toml may not speak for another model.
                log.error("owners_file_left_out", file=file.name, names=wish.name)
                continue
            found[wish.name] = wish
        return found

    def _run(self, name: str, wish: DeployedModel | None) -> ModelRun | None:
        """What is wanted of a model; None: nothing that this mesh has to run."""
        before = self._mesh.deployed.get(name)
        own = wish.replicas if wish else before.replicas if before else OwnReplicas()
        try:
            table: ModelTable = self._mesh.table(name, own)
            return self._mesh.run(name, table, wish.version if wish else "")
        except NotFoundError as error:
            log.warning("model_left_out", model=name, reason=str(error))
        except ConfigurationError:
            # It is another's to run: in the orchestrator, or elsewhere.
            return None
        return None

    def _changed(self, name: str, wish: DeployedModel | None) -> bool:
        if wish and wish.version:
            version = self._mesh.resolved(name, wish.version)
            wish = wish.model_copy(update={"version": version})
        run = self._run(name, wish)
        if run is None:
            return False
        state = state_of(application_of(name))
        said = self._mesh.deployed.get(name)
        if runs(state, run) and (wish is None or (said and said.replicas == wish.replicas)):
            self._amiss.discard(name)
            self._failed.pop(name, None)
            return False
        if state is not None and state.state not in (RUNNING, *FAILED):
            return False  # Serve is at it
        fingerprint = hashlib.sha256(f"{run.build}{wish}".encode()).hexdigest()
        if self._waits(name, fingerprint):
            return False
        if state is not None and name not in self._amiss:
            # Replicas that are not heard of for a moment are no reason to replace them.
            self._amiss.add(name)
            return False
        try:
            done = deploy_model(
                self._mesh, name, run.version, wish.replicas if wish is not None else None
            )
        except RecMeshError:
            self._failed[name] = (fingerprint, self._clock())
            raise
        self._amiss.discard(name)
        log.info("model_deployed", model=name, version=done.version, before=done.before)
        return done.changed

    def _waits(self, name: str, fingerprint: str) -> bool:
        failed = self._failed.get(name)
        return (
            failed is not None and failed[0] == fingerprint and self._clock() < failed[1] + RETRY_S
        )


class StewardReplica:
    """The steward in a process of the cluster."""

    async def __init__(self, home_root: str, file: str, owners: str) -> None:  # type: ignore[misc]
        """Ends once models run, so that a new cluster takes no calls before.

        Raises:
            ConfigurationError: ``file`` cannot work.
        """
        folder = Path(owners) if owners else None
        self._steward = Steward(Home(Path(home_root)), Path(file), folder)
        await asyncio.to_thread(self._steward.start)
        self._rounds = asyncio.create_task(self._go_on(), name="rounds")

    async def _go_on(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._steward.round)
            except (RecMeshError, RayError) as error:
                log.error("round_failed", reason=str(error))
            await asyncio.sleep(ROUND_S)

    async def check_health(self) -> None:
        """Asked by Serve; a steward that has stopped is replaced."""
        if self._rounds.done():
            raise ConfigurationError("the steward's rounds have ended")

    async def __del__(self) -> None:
        """Awaited by Serve when the replica leaves."""
        if hasattr(self, "_rounds"):
            self._rounds.cancel()
            self._steward.close()


def steward_application(
    file: Path, home: Home, owners: str, node_labels: Mapping[str, str]
) -> serve.RunTarget:
    """What Serve is to run for it, on a node that carries ``node_labels``."""
    actor: dict[str, Any] = {"num_cpus": 0.1}
    if node_labels:
        actor["label_selector"] = dict(node_labels)
    deployment = serve.deployment(StewardReplica).options(
        name=NAME,
        num_replicas=1,
        ray_actor_options=actor,
        # Two would take turns anyway; one less is one less to think of.
        max_surge_percent=0,
    )
    arguments = (str(home.root.resolve()), str(file.resolve()), owners)
    return serve.RunTarget(deployment.bind(*arguments), name=NAME, route_prefix=None)
