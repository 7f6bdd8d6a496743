"""What an owner's command works on: the installation, its mesh if one runs, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recmesh.deployments.applications import ApplicationState, Watch
from recmesh.deployments.deployed_models import DeployedModel, DeployedModels, OwnReplicas
from recmesh.deployments.mesh_config import DEFAULT_CONFIG, MeshConfig, ModelTable
from recmesh.deployments.mesh_record import MeshRecord, running_mesh
from recmesh.deployments.model_app import ModelRun, model_run
from recmesh.deployments.open_registry import open_registry
from recmesh.models.registry import check_known
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home
from recmesh.storage.model_registry import ModelRegistry
from recmesh.storage.model_stage import Stage


@dataclass(frozen=True, slots=True)
class OwnersMesh:
    """Used by one command."""

    home: Home
    running: MeshRecord | None
    """None: no mesh runs, and the next one starts as the files say."""
    file: Path
    """The mesh's configuration."""
    by: str
    """Who asks, for the history."""
    watch: Watch
    """Told what is being done, and how applications are meanwhile."""

    @classmethod
    def of(cls, home: Home, by: str, watch: Watch) -> OwnersMesh:
        """The mesh that runs in a home folder now, or would."""
        running = running_mesh(home)
        file = Path(running.config) if running else DEFAULT_CONFIG
        return cls(home, running, file, by, watch)

    @property
    def store(self) -> ArtifactStore:
        """The models' artifacts."""
        return ArtifactStore(self.home.artifacts)

    @property
    def deployed(self) -> DeployedModels:
        """What owners deployed."""
        return DeployedModels(self.home.deployed)

    def watched(self, states: list[ApplicationState]) -> None:
        """Hands on how an application is while it is deployed."""
        self.watch("deploying", states)

    def waits(self, for_whom: str) -> None:
        """Says that somebody else has the turn."""
        self.watch(for_whom, [])

    def table(self, name: str, replicas: OwnReplicas, version: str = "") -> ModelTable:
        """What would run of a model if its owner deployed this.

        Raises:
            NotFoundError: there is no such model.
            ConfigurationError: it cannot work; or the mesh's configuration pins another version,
                or runs the model elsewhere than in replicas of its own.
        """
        check_known(name)
        said = {other: one.replicas.said for other, one in self.deployed.all().items()}
        said[name] = replicas.said
        table = MeshConfig.load(self.file, self.home, said).models[name]
        if table.placement != "replicas":
            raise ConfigurationError(
                f'{name} has placement "{table.placement}" in {self.file}, so it has no replicas '
                f"of its own; its version is taken over by: recmesh up"
            )
        if version and table.version and table.version != version:
            raise ConfigurationError(
                f"{self.file} pins {name} at version {table.version}, and what it says wins over "
                f"{version}; change [models.{name}] there, or in RECMESH_MODELS__…"
            )
        return table

    def check_wins(self, name: str, table: ModelTable, wanted: OwnReplicas) -> None:
        """Refuses what the mesh's configuration says otherwise: it would have no effect.

        Raises:
            ConfigurationError: names the values.
        """
        for key, value in wanted.said.items():
            if getattr(table, key) != value:
                raise ConfigurationError(
                    f"{self.file} or the environment has {key} {getattr(table, key)} for {name}, "
                    f"which wins over {value}; change [models.{name}] there"
                )

    def run(self, name: str, table: ModelTable, version: str, beside: str = "") -> ModelRun:
        """A version as Serve is to run it here. Raises NotFoundError."""
        config = MeshConfig.load(self.file, self.home)
        return model_run(
            name,
            table,
            self.home,
            config.replicas_host,
            version=version,
            beside=beside,
            telemetry_table=config.telemetry,
        )

    def served_version(self, name: str, state: ApplicationState | None) -> str:
        """What replicas of a model serve now; where none does, the live version.

        Raises:
            NotFoundError: it was never trained.
        """
        known = set(self.store.versions(name))
        serving = [r.version for r in state.replicas if r.version in known] if state else []
        return serving[0] if serving else self.store.live_version(name)

    def resolved(self, name: str, version: str) -> str:
        """A version's whole name; of an empty one, the live version's.

        Raises:
            NotFoundError: there is no such model or version.
        """
        check_known(name)
        with open_registry(self.home, self._uri()) as registry:
            if version:
                return registry.get(name, version).version
        return self.store.live_version(name)

    def record(self, name: str, version: str, did: str, *, detail: str = "") -> None:
        """Keeps in the history that a version went live, or was deployed again."""
        registry = ModelRegistry.open(self._uri(), self.home.model_registry)
        try:
            said = {"by": self.by, "did": did, "detail": detail}
            if not registry.move(name, version, Stage.LIVE, **said):
                registry.note(name, version, **said)
        finally:
            registry.close()

    def note(self, name: str, version: str, did: str, *, detail: str = "") -> None:
        """Keeps in the history what changed no stage."""
        with open_registry(self.home, self._uri()) as registry:
            registry.note(name, version, by=self.by, did=did, detail=detail)

    def _uri(self) -> str:
        return MeshConfig.load(self.file, self.home).database.uri

    def written(self, name: str, version: str, replicas: OwnReplicas) -> DeployedModel:
        """Keeps what was deployed, and returns it."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = DeployedModel(name=name, version=version, replicas=replicas, by=self.by, at=now)
        self.deployed.write(made)
        return made
