"""The mesh that runs, for benchmarks that load it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

from benchmarks.running_campaigns import LASTS_S, order_campaigns
from recmesh.cli.load_generation.load_run import LoadRun
from recmesh.cli.load_generation.request_mix import RequestMix, parse_mix
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.edge_channel import Edge, edge_of
from recmesh.orchestrator.overload.priority import Priority
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home

CHANNELS = 4
NICENESS = -10


@dataclass(frozen=True)
class AskedMesh:
    """Where to ask, and for what."""

    home: Home
    pid: int
    """Of its ``recmesh up``."""
    edge: Edge
    mix: RequestMix

    @classmethod
    def running(cls, mix: str, *, campaigns: bool = True) -> AskedMesh:
        """The mesh of ``$RECMESH_HOME``, to be asked by weights of surfaces; ends without one.

        Campaigns run from here on, as on a platform: holding their slots is a part of pages. Told
        otherwise, those of an earlier benchmark end.
        From here on this process is served before the mesh's where it may be (by root), as if it
        had a machine of its own: how late it is itself is not the mesh's.
        """
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        home = Home.from_environment()
        try:
            pid = required_mesh(home).pid
            dataset, edge = current_dataset(home), edge_of(home)
            requests = RequestMix.of(parse_mix(mix), dataset, [], [])
            with edge.channel() as channel:
                order_campaigns(channel, dataset, lasts_s=LASTS_S if campaigns else 0)
            return cls(home, pid, edge, requests)
        except RecMeshError as error:
            raise SystemExit(str(error)) from None

    def loaded(
        self,
        *,
        deadline_s: float,
        seed: int,
        feedback_share: float = 0.0,
        priority: Priority = Priority.NORMAL,
    ) -> AbstractAsyncContextManager[LoadRun]:
        """Asks it for pages, on connections of its own."""
        return LoadRun.on(
            self.edge,
            self.mix,
            channels=CHANNELS,
            deadline_s=deadline_s,
            feedback_share=feedback_share,
            seed=seed,
            priority=priority,
        )


def lasting_from(fine: Sequence[bool]) -> int | None:
    """From where on all is fine; None: it is not at the end.

    What is fine between two that are not is luck.
    """
    return next((n for n in range(len(fine)) if all(fine[n:])), None)
