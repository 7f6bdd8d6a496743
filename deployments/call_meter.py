"""How busy a server is: calls in flight, calls answered, how long they take."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

RECENT_CALLS = 256


class CallMeter:
    """Counts the calls of one server. Belongs to one event loop.

    Call :meth:`begin` when a call comes in and :meth:`end` with what it returned when the
    call ends, however it ends.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.inflight = 0
        self.requests = 0
        """Calls that ended since the start."""
        self._recent_s: deque[float] = deque(maxlen=RECENT_CALLS)
        self._busy_s = 0.0
        self._changed_s = self._taken_s = clock()

    def begin(self) -> float:
        """A call came in. Returns its start for :meth:`end`."""
        now_s = self._clock()
        self._busy_s += self.inflight * (now_s - self._changed_s)
        self._changed_s = now_s
        self.inflight += 1
        return now_s

    def end(self, started_s: float) -> None:
        """A call ended."""
        now_s = self._clock()
        self._busy_s += self.inflight * (now_s - self._changed_s)
        self._changed_s = now_s
        self.inflight -= 1
        self.requests += 1
        self._recent_s.append(now_s - started_s)

    @property
    def p50_ms(self) -> float:
        """Median duration of the last 256 calls in milliseconds; 0 before the first."""
        return 1e3 * statistics.median(self._recent_s) if self._recent_s else 0.0

    def take_mean_inflight(self) -> float:
        """Mean number of calls in flight since this was last asked.

        The integral over time rather than a sample: what a slow sampler would miss between
        two looks is in it.
        """
        now_s = self._clock()
        busy_s = self._busy_s + self.inflight * (now_s - self._changed_s)
        elapsed_s = now_s - self._taken_s
        self._busy_s, self._changed_s, self._taken_s = 0.0, now_s, now_s
        return busy_s / elapsed_s if elapsed_s > 0 else float(self.inflight)
