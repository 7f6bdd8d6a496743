"""The methods of ``TrialService`` on one orchestrator's mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recmesh.deployments.grpc_service import Method
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_panel import BESIDE
from recmesh.orchestrator.model_trials.agreement import Mean
from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.shadow_mirror import Mirrored
from recmesh.v1 import trial_pb2


def _mean(mean: Mean) -> trial_pb2.MeanOf:
    return trial_pb2.MeanOf(count=mean.count, total=mean.total)


def _calls(tally: CallTally) -> trial_pb2.CallCounts:
    return trial_pb2.CallCounts(
        calls=tally.calls, failures=tally.failures, recent_s=list(tally.recent_s)
    )


@dataclass(frozen=True, slots=True)
class TrialMethods:
    """Tells what the orchestrator counted."""

    mesh: Mesh

    @property
    def offered(self) -> Mapping[str, Method]:
        """By name in ``TrialService``."""
        return {"ReadTrials": self.read_trials}

    async def read_trials(
        self, request: trial_pb2.ReadTrialsRequest, _: float
    ) -> trial_pb2.ReadTrialsResponse:
        """``TrialService.ReadTrials``."""
        names = sorted(name for name in self.mesh.models.tallies if BESIDE in name)
        return trial_pb2.ReadTrialsResponse(
            trials=[
                self._trial(name)
                for name in names
                if request.model in ("", name.partition(BESIDE)[0])
            ]
        )

    def _trial(self, name: str) -> trial_pb2.Trial:
        panel = self.mesh.models
        model, _, version = name.partition(BESIDE)
        live = panel.descriptions.get(model)
        seen = self.mesh.shadows.mirrored.get(name, Mirrored())
        return trial_pb2.Trial(
            model=model,
            version=version,
            live_version=live.version if live else "",
            makes_pages=name in panel.asked_by_arms,
            calls=_calls(panel.tallies[name]),
            live_calls=_calls(panel.tallies[model]),
            mirrored_pages=seen.pages,
            left_out_pages=seen.left_out,
            overlap_at_10=_mean(seen.agreement.overlap_at_10),
            rank_correlation=_mean(seen.agreement.rank_correlation),
            opinions=_mean(seen.agreement.opinions),
            calibrated_shift=_mean(seen.agreement.calibrated_shift),
        )
