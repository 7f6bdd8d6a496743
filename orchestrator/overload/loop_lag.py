"""How late an event loop is: what it has to do waits for it, or for a core."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import NoReturn

LOOK_EVERY_S = 0.02
LOOKS = 15
"""Of which the median is told, three times a second."""


async def tell_lag(tell: Callable[[float], None]) -> NoReturn:
    """Tells, until cancelled, by how many seconds the running loop comes late.

    Where a process has the CPU it needs, half of its timers fire within a few tenths of a
    millisecond, however long it waits for others; where it has not, they come milliseconds late.
    """
    while True:
        late_s = []
        for _ in range(LOOKS):
            asleep_s = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            late_s.append(time.monotonic() - asleep_s - LOOK_EVERY_S)
        tell(statistics.median(late_s))
