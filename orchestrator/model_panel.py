"""The models an orchestrator can ask, and what each last said of itself.

A version that runs beside a model's live one is asked under a name of its own, ``model@version``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import numpy as np
import structlog

from recmesh.orchestrator.blend import UNCALIBRATED, Calibration
from recmesh.orchestrator.circuit_breaker import CircuitBreaker
from recmesh.orchestrator.last_answers import LastAnswers
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.storage.errors import RecMeshError
from recmesh.v1 import model_pb2

log = structlog.get_logger(__name__)

REFRESH_S = 2.0
DESCRIBE_TIMEOUT_S = 1.0
BESIDE = "@"
"""Between a model's name and its version, where that runs beside the live one."""


def _calibration(said: model_pb2.ScoreCalibration) -> Calibration:
    if len(said.raw_scores) < 2:
        return UNCALIBRATED
    return Calibration(
        np.array(said.raw_scores, np.float32), np.array(said.probabilities, np.float32)
    )


@dataclass(slots=True)
class ModelPanel:
    """Model clients by the name they are asked under. Belongs to one event loop."""

    clients: dict[str, ModelClient]
    descriptions: dict[str, model_pb2.DescribeResponse] = field(default_factory=dict)
    breakers: dict[str, CircuitBreaker] = field(default_factory=dict)
    tallies: dict[str, CallTally] = field(default_factory=dict)
    """Of versions beside the live ones, and of these."""
    last_answers: LastAnswers = field(default_factory=LastAnswers)
    asked_by_arms: frozenset[str] = frozenset()
    """Who makes pages of experiments."""
    _calibrations: dict[tuple[str, str], Calibration] = field(default_factory=dict)
    """By model and embedding version; that of the empty version is the model's own."""

    def can(self, name: str, capability: model_pb2.Capability.ValueType, surface: str) -> bool:
        """Whether a model is worth asking. One that never answered Describe is: it may be back."""
        if name not in self.clients:
            return False
        description = self.descriptions.get(name)
        if description is None:
            return True
        on_surface = not description.surfaces or surface in description.surfaces
        return capability in description.capabilities and on_surface

    def join(self, name: str, client: ModelClient) -> None:
        """Asks a model, or a version beside the live one, from now on."""
        self.clients[name] = client
        model, beside, _ = name.partition(BESIDE)
        if beside:
            self.tallies[name] = CallTally()
            self.tallies[model] = CallTally()

    def leave(self, name: str) -> ModelClient:
        """Forgets a version beside the live one; returns its client, to be closed."""
        self.descriptions.pop(name, None)
        self.tallies.pop(name, None)
        self.breakers.pop(name, None)
        return self.clients.pop(name)

    def shadows(self, model: str) -> list[str]:
        """Versions beside the live one that make no pages."""
        return [
            name
            for name in self.tallies
            if name.startswith(model + BESIDE) and name not in self.asked_by_arms
        ]

    def spoken(self, name: str) -> set[str]:
        """The embedding versions that a model answers in; empty: it never said."""
        description = self.descriptions.get(name)
        if description is None:
            return set()
        return {description.embedding_version, *description.embedding_versions}

    def calibration(self, name: str, embedding_version: str = "") -> Calibration:
        """How a model's raw scores, in an embedding version, read as probabilities."""
        own = self._calibrations.get((name, ""), UNCALIBRATED)
        return self._calibrations.get((name, embedding_version), own)

    async def refresh(self) -> None:
        """Asks every model what it is. A model that does not answer keeps its last word."""

        async def one(name: str, client: ModelClient) -> None:
            with contextlib.suppress(RecMeshError, TimeoutError):
                description = await client.describe(timeout_s=DESCRIBE_TIMEOUT_S)
                self.descriptions[name] = description
                self._calibrations[name, ""] = _calibration(description.calibration)
                for version, said in zip(
                    description.embedding_versions,
                    description.embedding_calibrations,
                    strict=False,
                ):
                    self._calibrations[name, version] = _calibration(said)

        await asyncio.gather(*(one(name, client) for name, client in self.clients.items()))

    async def refresh_forever(self) -> None:
        """Keeps descriptions current until cancelled, so that new versions are noticed."""
        while True:
            try:
                await self.refresh()
            except Exception:
                # The loop outlives whatever an adapter may do wrong.
                log.exception("describing models failed")
            await asyncio.sleep(REFRESH_S)
