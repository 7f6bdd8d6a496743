"""Takes over the policy that goes live, between two requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.errors import RecMeshError

log = structlog.get_logger(__name__)

POLL_S = 0.25


@dataclass(slots=True)
class PolicyFollower:
    """Follows the policy store for one orchestrator. Belongs to its event loop.

    Requests under way keep the policy that they took.
    """

    store: PolicyStore
    mesh: Mesh
    configured: Path
    """Serves while none is live."""
    _seen: str | None = field(default=None, init=False)

    async def run(self) -> None:
        """Follows for ever; cancel to end. The last policy serves while there is no better."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.look()
            except RecMeshError as error:
                log.warning("policy_refused", reason=str(error))
            except Exception:
                # The loop outlives whatever a file may bring about.
                log.exception("following_the_policy_failed")

    async def look(self) -> None:
        """Takes the live policy over.

        Raises:
            RecMeshError: it cannot work, or counts popularity otherwise than the snapshot does.
                It is looked at again when another is promoted.
        """
        live = await asyncio.to_thread(self.store.live)
        if live == self._seen:
            return
        self._seen = live
        policy = await asyncio.to_thread(self.store.resolve, live, self.configured)
        now = self.mesh.snapshot.policy
        if policy.version == now.version:
            return
        if policy.popularity_half_life_days != now.popularity_half_life_days:
            raise RecMeshError(
                f"policy {policy.version} has another popularity_half_life_days; it serves after: "
                "recmesh up"
            )
        # One assignment, and no waiting since the snapshot was read.
        self.mesh.snapshot = replace(self.mesh.snapshot, policy=policy)
        log.info("policy", version=policy.version)
