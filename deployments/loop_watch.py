"""Tells an adaptive limit how late its event loop is."""

from __future__ import annotations

import asyncio
import time

from recmesh.orchestrator.overload.adaptive_limit import AdaptiveLimit

LOOK_S = 0.01
WINDOW_LOOKS = 10


async def watch_loop(limit: AdaptiveLimit) -> None:
    """Looks every 10 ms, and adjusts the limit every tenth time; cancel to end."""
    while True:
        for _ in range(WINDOW_LOOKS):
            began_s = time.monotonic()
            await asyncio.sleep(LOOK_S)
            limit.late(time.monotonic() - began_s - LOOK_S)
        limit.adjust()
