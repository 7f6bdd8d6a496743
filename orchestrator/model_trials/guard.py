"""When a version that some pages ask does so badly that it must stop at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.excess import ExcessDetector

CALLS_BETWEEN_FALSE_ALARMS = 1e6
"""On average at least, of a version that fails, or is slow, just as often as it may."""
FAILURES_ALLOWED = 0.02
"""Share of calls that may fail; twice what the live version fails, if that is more."""
SLOWER = 2.0
"""A version may take this many times as long as the live one's 95th percentile …"""
SLOWER_S = 0.005
"""… and this much more,"""
SLOW_ALLOWED = 0.05
"""in all but this share of its answers."""
LIVE_ANSWERS = 200
"""Of the live version, from which on latencies are compared."""
MOST_ALLOWED = 0.9


@dataclass(slots=True)
class TrialGuard:
    """Watches one version on trial, by calls since it was first looked at."""

    _calls: int = 0
    _failures: int = 0
    _failing: ExcessDetector = field(default_factory=ExcessDetector)
    _slow: ExcessDetector = field(default_factory=ExcessDetector)

    def breach(self, trial: CallTally, live: CallTally | None) -> str:
        """Why the version must stop, for people; empty: it need not. Asked again and again.

        Args:
            trial: its calls.
            live: those of the live version; None: there is none.
        """
        calls, failures = trial.calls - self._calls, trial.failures - self._failures
        self._calls, self._failures = trial.calls, trial.failures
        return self._fails(failures, calls, live) or self._dawdles(trial, calls - failures, live)

    def _fails(self, failures: int, calls: int, live: CallTally | None) -> str:
        allowed = FAILURES_ALLOWED
        if live is not None and live.calls:
            allowed = min(max(allowed, 2 * live.failures / live.calls), MOST_ALLOWED)
        if self._failing.add(failures, calls, allowed) < CALLS_BETWEEN_FALSE_ALARMS:
            return ""
        failed, of = self._failing.strongest
        return f"{failed} of its last {of} calls failed; {allowed:.1%} may"

    def _dawdles(self, trial: CallTally, answers: int, live: CallTally | None) -> str:
        if live is None or len(live.recent_s) < LIVE_ANSWERS:
            return ""
        limit_s = SLOWER * live.latency_s(0.95) + SLOWER_S
        latest = list(trial.recent_s)[-answers:] if answers else []
        slow = sum(took_s > limit_s for took_s in latest)
        if self._slow.add(slow, len(latest), SLOW_ALLOWED) < CALLS_BETWEEN_FALSE_ALARMS:
            return ""
        slow, of = self._slow.strongest
        return (
            f"{slow} of its last {of} answers took more than {1e3 * limit_s:.0f} ms, {SLOWER:g} "
            f"times the live version's 95th percentile and {1e3 * SLOWER_S:.0f} ms; "
            f"{SLOW_ALLOWED:.0%} may"
        )
