"""What all orchestrators of a mesh have seen of the versions on trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import numpy as np

from recmesh.deployments.address_book import Role
from recmesh.deployments.applications import states
from recmesh.deployments.mesh_token import from_inside
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import trial_pb2, trial_pb2_grpc

ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Calls:
    """Of one version, at all orchestrators together."""

    calls: int
    failures: int
    p50_ms: float
    """Of the latest answers; NaN where there is none."""
    p95_ms: float


@dataclass(frozen=True, slots=True)
class TrialState:
    """One version beside a live one. Means are NaN where nothing was compared."""

    model: str
    version: str
    live_version: str
    makes_pages: bool
    calls: Calls
    live_calls: Calls
    mirrored_pages: int
    left_out_pages: int
    overlap_at_10: float
    rank_correlation: float
    opinions: float
    calibrated_shift: float

    def as_json(self) -> dict[str, Any]:
        """For scripts; what is not known is null."""
        return {name: _null(value) for name, value in asdict(self).items()}


def _null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _joined_calls(parts: Sequence[trial_pb2.CallCounts]) -> Calls:
    took = np.array([seconds for part in parts for seconds in part.recent_s] or [np.nan])
    p50, p95 = 1e3 * np.quantile(took, [0.5, 0.95])
    return Calls(
        sum(part.calls for part in parts),
        sum(part.failures for part in parts),
        float(p50),
        float(p95),
    )


def _joined_mean(parts: Sequence[trial_pb2.MeanOf]) -> float:
    count = sum(part.count for part in parts)
    return sum(part.total for part in parts) / count if count else math.nan


def joined(parts: Sequence[trial_pb2.Trial]) -> TrialState:
    """One version as several orchestrators have seen it."""
    first = parts[0]
    return TrialState(
        model=first.model,
        version=first.version,
        live_version=first.live_version,
        makes_pages=any(part.makes_pages for part in parts),
        calls=_joined_calls([part.calls for part in parts]),
        live_calls=_joined_calls([part.live_calls for part in parts]),
        mirrored_pages=sum(part.mirrored_pages for part in parts),
        left_out_pages=sum(part.left_out_pages for part in parts),
        overlap_at_10=_joined_mean([part.overlap_at_10 for part in parts]),
        rank_correlation=_joined_mean([part.rank_correlation for part in parts]),
        opinions=_joined_mean([part.opinions for part in parts]),
        calibrated_shift=_joined_mean([part.calibrated_shift for part in parts]),
    )


def read_trials(model: str = "", token: str = "") -> list[TrialState]:
    """Trials of a model, or of all, by model and version. The process must have joined the cluster.

    ``token`` of the mesh; empty: it has none.

    Raises:
        UnavailableError: no orchestrator answers.
    """
    found: dict[tuple[str, str], list[trial_pb2.Trial]] = {}
    addresses = [
        replica.address
        for state in states()
        if state.name == Role.ORCHESTRATOR
        for replica in state.replicas
    ]
    answered = False
    for address in addresses:
        with grpc.insecure_channel(address) as channel:
            try:
                answer = trial_pb2_grpc.TrialServiceStub(channel).ReadTrials(
                    trial_pb2.ReadTrialsRequest(model=model),
                    timeout=ANSWER_S,
                    metadata=from_inside(token),
                )
            except grpc.RpcError:
                continue  # one that leaves; the others count what is to come
        answered = True
        for trial in answer.trials:
            found.setdefault((trial.model, trial.version), []).append(trial)
    if not answered:
        raise UnavailableError("no orchestrator says what it has seen; see: recmesh status")
    return [joined(found[key]) for key in sorted(found)]
