"""Keeps the language model's other embedding versions loaded, as the registry names them."""

from __future__ import annotations

import asyncio

import structlog

from recmesh.deployments.model_methods import ModelMethods
from recmesh.models.model import Model
from recmesh.models.registry import loader
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EmbeddingRegistry, EmbeddingVersion
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5


class SpokenVersions:
    """Follows the registry for one replica. Belongs to one event loop.

    A replica answers in every version that is served, each from the artifact of its record:
    switching, or going back, loads nothing and restarts nobody.
    """

    def __init__(self, home: Home, methods: ModelMethods) -> None:
        self._registry = EmbeddingRegistry(home.vectors)
        self._store = ArtifactStore(home.artifacts)
        self._methods = methods
        self._loaded: dict[str, Model] = {}
        """By the artifact's version."""
        self._said: dict[str, str] = {}
        """Why an artifact cannot be loaded."""

    async def start(self) -> asyncio.Task[None]:
        """Speaks what is served when it returns, and follows until the task is cancelled."""
        await self._look_safely()
        return asyncio.create_task(self._run(), name="follow-versions")

    async def look(self) -> None:
        """Loads what is new, then answers in all that is served.

        Raises:
            DataError: the registry is damaged; what was spoken still is.
        """
        own = self._methods.model.description
        served = await asyncio.to_thread(self._registry.served)
        # The live one last: it decides which artifact speaks a version that was built twice.
        records = {
            record.version: record
            for record in sorted(served, key=lambda r: r.times.get("live", ""))
            if record.version != own.embedding_version
        }
        spoken: dict[str, Model] = {}
        for record in records.values():
            model = self._loaded.get(record.artifact)
            if model is None:
                model = await self._load(record)
            if model is not None:
                spoken[record.version] = model
        self._loaded = {model.description.version: model for model in spoken.values()}
        self._methods.speak(spoken)

    async def _load(self, record: EmbeddingVersion) -> Model | None:
        def load() -> Model:
            name = self._methods.model.description.name
            model = loader(name)(self._store.load(name, record.artifact))
            model.embed_texts(["warm-up"])  # loads what is loaded on first use
            return model

        try:
            model = await asyncio.to_thread(load)
        except RecMeshError as error:
            if self._said.get(record.artifact) != str(error):
                self._said[record.artifact] = str(error)
                log.warning("not_spoken", embedding_version=record.version, reason=str(error))
            return None
        log.info("spoken", embedding_version=record.version)
        return model

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look_safely()

    async def _look_safely(self) -> None:
        try:
            await self.look()
        except RecMeshError as error:
            log.warning("embedding_versions_unknown", reason=str(error))
        except Exception:
            # The replica outlives whatever one artifact may bring about.
            log.exception("following_the_registry_failed")
