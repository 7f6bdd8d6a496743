"""Takes over the embedding version that goes live, between two requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog

from recmesh.orchestrator.mesh import Mesh
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry, EmbeddingVersion
from recmesh.storage.errors import RecMeshError

log = structlog.get_logger(__name__)

POLL_S = 0.25


@dataclass(slots=True)
class EmbeddingFollower:
    """Follows the registry for one orchestrator. Belongs to its event loop.

    Requests under way keep the version that they took, which stays loaded until it has drained.
    """

    registry: EmbeddingRegistry
    mesh: Mesh
    warm_up: Callable[[EmbeddingVersion], Awaitable[bool]]
    """Whether the collection can be searched, without a wait on the first request."""
    _said: str = field(default="", init=False)

    async def run(self) -> None:
        """Follows for ever; cancel to end. The last version serves while there is no better."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.look()
            except RecMeshError as error:
                self._say(str(error))
            except Exception:
                # The loop outlives whatever an adapter may do wrong.
                log.exception("following_the_registry_failed")

    async def look(self) -> None:
        """Takes the live version over once encoder and collection are ready for it.

        Raises:
            NotFoundError: nothing is live.
            DataError: the registry is damaged.
        """
        live = await asyncio.to_thread(self.registry.live)
        now = self.mesh.snapshot.embedding
        if now is not None and now.collection == live.collection:
            return
        if not await self._spoken(live.version):
            self._say(f"{EMBEDDER} does not speak {live.version} yet")
        elif await self.warm_up(live):
            # One assignment, and no waiting since the snapshot was read.
            self.mesh.snapshot = replace(self.mesh.snapshot, embedding=live)
            self._said = ""
            log.info("embedding_version", version=live.version, collection=live.collection)

    async def _spoken(self, version: str) -> bool:
        models = self.mesh.models
        if EMBEDDER not in models.clients:
            return True  # nobody embeds, in any version
        await models.refresh()
        return version in models.spoken(EMBEDDER)

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.warning("embedding_version_waits", reason=what)
