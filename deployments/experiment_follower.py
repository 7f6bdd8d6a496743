"""Takes over the book of experiments, between two requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from recmesh.orchestrator.experiments.experiment import Arm, Experiment, ExperimentBook
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.experiments.served_experiments import (
    MakingKey,
    PageMaking,
    ServedExperiments,
    makings_key,
)
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_panel import BESIDE
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingRegistry, EmbeddingVersion
from recmesh.storage.errors import RecMeshError

log = structlog.get_logger(__name__)

POLL_S = 0.25
"""A stopped experiment goes on for as long at most, and for as long as reading the book takes."""


@dataclass(slots=True)
class ExperimentFollower:
    """Follows the store for one orchestrator. Belongs to its event loop.

    An experiment of which not every arm can be served is left out whole: to serve some of its arms
    would say of units that they are in an arm that they do not get.
    """

    store: ExperimentStore
    policies: PolicyStore
    mesh: Mesh
    registry: EmbeddingRegistry | None = None
    """None: there is no vector index, so no arm can search another version."""
    warm_up: Callable[[EmbeddingVersion], Awaitable[bool]] | None = None
    _seen: tuple[int, int] | None = field(default=None, init=False)
    _book: ExperimentBook = field(default_factory=ExperimentBook, init=False)
    _policies: dict[str, Policy] = field(default_factory=dict, init=False)
    _warm: set[str] = field(default_factory=set, init=False)
    _served: tuple[ExperimentBook, tuple[tuple[str, str], ...], frozenset[str]] | None = field(
        default=None, init=False
    )
    """What was served last, and the embedding versions and models of its arms."""
    _said: dict[str, str] = field(default_factory=dict, init=False)
    """Why experiments are left out, by name."""

    async def run(self) -> None:
        """Follows for ever; cancel to end. What was read last serves while there is no better."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()

    async def look(self) -> None:
        """Takes over what changed. Never raises but for a cancellation."""
        try:
            stamp = await asyncio.to_thread(self.store.stamp)
            if stamp != self._seen:
                self._book = (await asyncio.to_thread(self.store.read)).book
                self._seen = stamp
                await self._take()
            elif self._book_names_what_may_go():
                await self._take()
        except RecMeshError as error:
            if self._said.get("") != str(error):
                self._said[""] = str(error)
                log.warning("experiments_refused", reason=str(error))
        except Exception:
            # The loop outlives whatever a file may bring about.
            log.exception("following_the_experiments_failed")

    def _book_names_what_may_go(self) -> bool:
        """Then what it needs may come and go without a change of the book."""
        arms = (arm for e in self._book.experiments if not e.killed for arm in e.arms)
        return any(arm.embedding or arm.models for arm in arms)

    async def _take(self) -> None:
        now = datetime.now(UTC)
        makings: dict[MakingKey, PageMaking] = {}
        served = []
        for experiment in self._book.experiments:
            if experiment.killed or experiment.ramp == 0 or experiment.ends_at <= now:
                continue
            try:
                found = {
                    makings_key(arm): await self._making(arm, experiment)
                    for arm in experiment.arms
                    if arm.steers
                }
            except RecMeshError as error:
                self._leave_out(experiment.name, str(error))
                continue
            self._said.pop(experiment.name, None)
            makings |= found
            served.append(experiment)
        book = self._book.model_copy(update={"experiments": tuple(served)})
        # Records of embedding versions change as they are verified and retired.
        state = (
            book,
            tuple(sorted((e.version, e.collection) for e in _embeddings(makings))),
            frozenset(who for making in makings.values() for who in making.models.values()),
        )
        if state == self._served:
            return
        # One assignment: a request finds all of the old book or all of the new one.
        self.mesh.experiments = ServedExperiments(book, makings)
        self.mesh.models.asked_by_arms = state[2]
        self._served = state
        log.info("experiments", served=[experiment.name for experiment in served])

    async def _making(self, arm: Arm, experiment: Experiment) -> PageMaking:
        policy = await self._policy(arm.policy, experiment) if arm.policy else None
        embedding = await self._embedding(arm.embedding) if arm.embedding else None
        who = {model: self._answering(model, version) for model, version in arm.models.items()}
        return PageMaking(policy, embedding, {m: name for m, name in who.items() if name != m})

    def _answering(self, model: str, version: str) -> str:
        """The name under which this version of a model is asked."""
        for name in (model, f"{model}{BESIDE}{version}"):
            said = self.mesh.models.descriptions.get(name)
            if name in self.mesh.models.clients and said is not None and said.version == version:
                return name
        raise RecMeshError(
            f"{model}@{version} does not run; run: recmesh model shadow {model}@{version}"
        )

    async def _policy(self, version: str, experiment: Experiment) -> Policy:
        if version not in self._policies:
            self._policies[version] = await asyncio.to_thread(self.policies.load, version)
        policy, live = self._policies[version], self.mesh.snapshot.policy
        if policy.popularity_half_life_days != live.popularity_half_life_days:
            raise RecMeshError(
                f"policy {version} counts popularity with a half-life of "
                f"{policy.popularity_half_life_days:g} days, and this mesh with "
                f"{live.popularity_half_life_days:g}"
            )
        for surface in experiment.surfaces or live.surfaces:
            if surface not in policy.surfaces:
                raise RecMeshError(f"policy {version} has no surface {surface}")
        return policy

    async def _embedding(self, version: str) -> EmbeddingVersion:
        if self.registry is None or self.warm_up is None:
            raise RecMeshError(f"embedding version {version}: there is no vector index")
        served = await asyncio.to_thread(self.registry.served)
        record = next((r for r in reversed(served) if version in (r.version, r.collection)), None)
        if record is None:
            raise RecMeshError(f"embedding version {version} is not there any more")
        models = self.mesh.models
        if EMBEDDER in models.clients and record.version not in models.spoken(EMBEDDER):
            raise RecMeshError(f"{EMBEDDER} does not speak {version} yet")
        if record.collection not in self._warm:
            if not await self.warm_up(record):
                raise RecMeshError(f"the collection of {version} cannot be searched yet")
            self._warm.add(record.collection)
        return record

    def _leave_out(self, name: str, reason: str) -> None:
        if self._said.get(name) != reason:
            self._said[name] = reason
            log.warning("experiment_left_out", experiment=name, reason=reason)


def _embeddings(makings: dict[MakingKey, PageMaking]) -> list[EmbeddingVersion]:
    return [making.embedding for making in makings.values() if making.embedding is not None]
