"""Asks versions that run beside the live ones the same, after the page is answered.

What they say is compared and forgotten: it reaches no page, and no deadline waits for it. A
version that is too slow for the traffic is asked less, and how often it was not is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog

from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.model_trials.agreement import (
    Agreement,
    Float32,
    overlap,
    rank_correlation,
)
from recmesh.orchestrator.model_trials.seen import Seen
from recmesh.storage.errors import RecMeshError
from recmesh.v1 import model_pb2

log = structlog.get_logger(__name__)

MOST_PAGES = 4
"""Pages that are mirrored to one version at a time; others are left out."""
TIMEOUT_S = 2.0


@dataclass(slots=True)
class Mirrored:
    """What one version made of the traffic."""

    agreement: Agreement = field(default_factory=Agreement.none_yet)
    pages: int = 0
    left_out: int = 0
    """Pages that came while it was busy with others."""


def opinions(answer: model_pb2.ScoreResponse) -> Float32:
    """Scores ``[n]``, NaN where there is no opinion."""
    scores = np.array(answer.scores, np.float32)
    scores[np.array(answer.missing, np.int64)] = np.nan
    return scores


@dataclass(slots=True)
class ShadowMirror:
    """Mirrors one orchestrator's traffic. Belongs to its event loop."""

    panel: ModelPanel
    mirrored: dict[str, Mirrored] = field(default_factory=dict)
    """By the name that the version is asked under."""
    _under_way: dict[str, set[asyncio.Task[None]]] = field(default_factory=dict)

    def mirror(self, seen: Sequence[Seen]) -> None:
        """Takes over the calls of a page that is answered; returns at once."""
        for key in {key for one in seen for key in self.panel.shadows(one.model)}:
            tally = self.mirrored.setdefault(key, Mirrored())
            busy = self._under_way.setdefault(key, set())
            if len(busy) >= MOST_PAGES:
                tally.left_out += 1
                continue
            tally.pages += 1
            model = key.partition("@")[0]
            task = asyncio.create_task(
                self._page(key, [one for one in seen if one.model == model]), name=f"shadow-{key}"
            )
            busy.add(task)
            task.add_done_callback(busy.discard)

    async def _page(self, key: str, seen: Sequence[Seen]) -> None:
        client = self.panel.clients.get(key)
        if client is None:
            return
        for one in seen:
            started_s = time.monotonic()
            answered = False
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._compared(key, client, one)
                answered = True
            except (RecMeshError, TimeoutError):
                pass  # counted below
            except Exception:
                # Whatever a trial may do wrong stays with the trial.
                log.exception("mirroring_failed", asked=key)
            tally = self.panel.tallies.get(key)
            if tally is not None:
                tally.add(time.monotonic() - started_s, answered=answered)

    async def _compared(self, key: str, client: ModelClient, seen: Seen) -> None:
        agreement = self.mirrored[key].agreement
        if isinstance(seen.asked, model_pb2.RetrieveRequest):
            found = await client.retrieve(seen.asked, timeout_s=TIMEOUT_S)
            assert isinstance(seen.answer, model_pb2.RetrieveResponse)
            agreement.overlap_at_10.add(overlap(seen.answer.item_ids, found.item_ids))
            scores = dict(zip(found.item_ids, found.scores, strict=True))
            new = [scores.get(item_id, np.nan) for item_id in seen.answer.item_ids]
            live = np.array(seen.answer.scores, np.float32)
            self._scores_compared(key, seen.model, live, np.array(new, np.float32))
            return
        scored = await client.score(seen.asked, timeout_s=TIMEOUT_S)
        assert isinstance(seen.answer, model_pb2.ScoreResponse)
        if len(scored.scores) != len(seen.asked.item_ids):
            raise RecMeshError("it gave scores for another number of items")
        live, new_scores = opinions(seen.answer), opinions(scored)
        known = np.isfinite(live)
        if known.any():
            agreement.opinions.add(float(np.isfinite(new_scores[known]).mean()))
        self._scores_compared(key, seen.model, live, new_scores)

    def _scores_compared(self, key: str, model: str, live: Float32, new: Float32) -> None:
        agreement = self.mirrored[key].agreement
        agreement.rank_correlation.add(rank_correlation(live, new))
        both = np.isfinite(live) & np.isfinite(new)
        # Before it has said what it is, how its scores read is not known.
        if both.any() and key in self.panel.descriptions:
            of_live, of_new = self.panel.calibration(model), self.panel.calibration(key)
            shift = of_new(new[both]).mean() - of_live(live[both]).mean()
            agreement.calibrated_shift.add(float(shift))

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = [task for busy in self._under_way.values() for task in busy]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
