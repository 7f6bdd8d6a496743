"""The models an orchestrator can ask, and what each last said of itself."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import numpy as np
import structlog

from recmesh.orchestrator.blend import UNCALIBRATED, Calibration
from recmesh.orchestrator.circuit_breaker import CircuitBreaker
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.errors import RecMeshError
from recmesh.v1 import model_pb2

log = structlog.get_logger(__name__)

REFRESH_S = 2.0
DESCRIBE_TIMEOUT_S = 1.0


def _calibration(description: model_pb2.DescribeResponse) -> Calibration:
    if len(description.calibration.raw_scores) < 2:
        return UNCALIBRATED
    return Calibration(
        np.array(description.calibration.raw_scores, np.float32),
        np.array(description.calibration.probabilities, np.float32),
    )


@dataclass(slots=True)
class ModelPanel:
    """Model clients by name. Belongs to one event loop."""

    clients: dict[str, ModelClient]
    descriptions: dict[str, model_pb2.DescribeResponse] = field(default_factory=dict)
    breakers: dict[str, CircuitBreaker] = field(default_factory=dict)
    _calibrations: dict[str, Calibration] = field(default_factory=dict)

    def can(self, name: str, capability: model_pb2.Capability.ValueType, surface: str) -> bool:
        """Whether a model is worth asking. One that never answered Describe is: it may be back."""
        if name not in self.clients:
            return False
        description = self.descriptions.get(name)
        if description is None:
            return True
        on_surface = not description.surfaces or surface in description.surfaces
        return capability in description.capabilities and on_surface

    def calibration(self, name: str) -> Calibration:
        """How a model's raw scores read as probabilities."""
        return self._calibrations.get(name, UNCALIBRATED)

    async def refresh(self) -> None:
        """Asks every model what it is. A model that does not answer keeps its last word."""

        async def one(name: str, client: ModelClient) -> None:
            with contextlib.suppress(RecMeshError, TimeoutError):
                description = await client.describe(timeout_s=DESCRIBE_TIMEOUT_S)
                self.descriptions[name] = description
                self._calibrations[name] = _calibration(description)

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
