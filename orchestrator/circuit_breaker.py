"""Leaves a failing component alone for a moment instead of waiting for it every time."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after consecutive failures; lets one call try again after a pause.

    Nygard, *Release It!* (2007). Not thread-safe: belongs to one event loop.
    """

    def __init__(
        self,
        failures_to_open: int = 5,
        open_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._retry_at_s = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now. An allowed call must report how it went."""
        if self._failures < self._failures_to_open:
            return True
        now = self._clock()
        if now < self._retry_at_s:
            return False
        # One probe a pause: the next caller waits until this one has reported.
        self._retry_at_s = now + self._open_s
        return True

    def succeeded(self) -> None:
        """Reports a good answer; closes the circuit."""
        self._failures = 0

    def failed(self) -> None:
        """Reports a failure."""
        self._failures += 1
        if self._failures >= self._failures_to_open:
            self._retry_at_s = self._clock() + self._open_s
