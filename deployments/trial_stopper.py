"""Stops an experiment as soon as a version that one of its arms asks does too badly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import structlog

from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.experiments.served_experiments import makings_key
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.guard import TrialGuard
from recmesh.storage.errors import RecMeshError

log = structlog.get_logger(__name__)

PERIOD_S = 0.25
WHO = "trial guard"
"""Who stops it, in the history of the experiments."""


@dataclass(slots=True)
class TrialStopper:
    """Looks after the trials of one orchestrator by what its own calls show.

    Every orchestrator has one; the first that sees enough stops the experiment for all. Errors and
    latency only: what clicks say takes longer, and ``recmesh model canary`` watches it.
    """

    store: ExperimentStore
    mesh: Mesh
    _guards: dict[tuple[str, str], TrialGuard] = field(default_factory=dict)
    """By experiment and whom it asks."""

    async def run(self) -> None:
        """Looks for ever; cancel to end."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look()
            except RecMeshError as error:
                log.warning("trial_not_stopped", reason=str(error))
            except Exception:
                # The loop outlives whatever a file may bring about.
                log.exception("guarding_trials_failed")

    async def look(self) -> None:
        """Stops what must be stopped: here at once, for everybody by the book."""
        panel, served = self.mesh.models, self.mesh.experiments
        for experiment in served.book.experiments:
            for arm in experiment.arms:
                making = served.makings[makings_key(arm)] if arm.models else None
                for model, version in arm.models.items():
                    who = making.models.get(model, model) if making else model
                    # A first version has no live one to be compared with.
                    live = panel.tallies.get(model) if who != model else None
                    guard = self._guards.setdefault((experiment.name, who), TrialGuard())
                    why = guard.breach(panel.tallies.setdefault(who, CallTally()), live)
                    if why:
                        await self._stop(experiment.name, f"{model}@{version}: {why}")

    async def _stop(self, name: str, reason: str) -> None:
        log.error("trial_stopped", experiment=name, reason=reason)
        served = self.mesh.experiments
        others = tuple(e for e in served.book.experiments if e.name != name)
        book = served.book.model_copy(update={"experiments": others})
        self.mesh.experiments = replace(served, book=book)
        await asyncio.to_thread(self.store.stop, name, reason, WHO)
