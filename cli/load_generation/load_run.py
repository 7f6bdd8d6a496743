"""Loads one mesh, rate after rate or along a profile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import numpy as np

from recmesh.cli.load_generation.arrivals import poisson_arrivals
from recmesh.cli.load_generation.load_row import LoadRow
from recmesh.cli.load_generation.mesh_caller import MeshCaller, connected
from recmesh.cli.load_generation.open_loop import OpenLoop
from recmesh.cli.load_generation.page_feedback import PageFeedback
from recmesh.cli.load_generation.rate_profile import Segment
from recmesh.cli.load_generation.request_mix import RequestMix
from recmesh.cli.load_generation.sweep import Sweep
from recmesh.deployments.edge_channel import Edge
from recmesh.orchestrator.overload.priority import Priority

PROGRESS_S = 0.5
SETTLE_S = 2.0
"""Between two rates of a sweep: what the last one left behind is not the next one's."""

Progress = Callable[[float, float, str], None]
"""Seconds done, of how many, and at what."""


class LoadRun:
    """Keeps what was measured, also when it is cancelled."""

    def __init__(
        self, caller: MeshCaller, mix: RequestMix, feedback: PageFeedback, seed: int
    ) -> None:
        arrivals, requests = np.random.default_rng(seed).spawn(2)
        self._arrivals = arrivals
        self._requests = mix.requests(requests)
        self._caller = caller
        self.feedback = feedback
        self.interrupted = False

    @classmethod
    @asynccontextmanager
    async def on(
        cls,
        edge: Edge,
        mix: RequestMix,
        *,
        channels: int,
        deadline_s: float,
        feedback_share: float,
        seed: int,
        priority: Priority = Priority.NORMAL,
    ) -> AsyncIterator[LoadRun]:
        """Connected to a mesh.

        Raises:
            UnavailableError: nobody answers there.
        """
        async with connected(edge, channels) as opened:
            feedback = PageFeedback(feedback_share, deadline_s, np.random.default_rng([seed, 1]))
            caller = MeshCaller(opened, deadline_s, feedback.shown, priority)
            # A collection that walks all that was imported is a lag of tens of milliseconds.
            gc.collect()
            gc.freeze()
            try:
                yield cls(caller, mix, feedback, seed)
            finally:
                await feedback.sent()
                gc.unfreeze()

    async def profile(
        self, segments: Sequence[Segment], said: str, progress: Progress
    ) -> list[LoadRow]:
        """Runs a profile; a row a segment."""
        loop = OpenLoop(
            segments,
            poisson_arrivals(segments, self._arrivals),
            self._requests,
            self._caller.ask,
            self._caller.deadline_s,
        )
        total_s = sum(segment.seconds for segment in segments)

        async def report() -> None:
            while True:
                progress(min(loop.elapsed_s, total_s), total_s, said)
                await asyncio.sleep(PROGRESS_S)

        reporting = asyncio.create_task(report())
        try:
            await loop.run()
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError):
                await reporting
        self.interrupted |= loop.interrupted
        return loop.rows()

    async def sweep(self, sweep: Sweep, seconds: float, progress: Progress) -> None:
        """Measures until the knee is known; the rows are the sweep's."""
        while (rate_per_s := sweep.next_per_s()) is not None and not self.interrupted:
            said = f"{rate_per_s:g} requests/s"
            rows = await self.profile([Segment(rate_per_s, seconds)], said, progress)
            # A rate that was cut short says nothing about the knee.
            sweep.rows += [] if self.interrupted and sweep.rows else rows
            if not self.interrupted:
                await asyncio.sleep(SETTLE_S)
