"""When a version that some pages ask does so badly that it must stop at once."""

from __future__ import annotations

from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.excess import evidence

FALSE_ALARM = 1e-4
"""Probability that a version which keeps to the limits is ever stopped."""
FAILURES_ALLOWED = 0.02
"""Share of calls that may fail; twice what the live version fails, if that is more."""
SLOWER = 2.0
"""A version may take this many times as long as the live one's 95th percentile …"""
SLOWER_S = 0.005
"""… and this much more,"""
SLOW_ALLOWED = 0.05
"""in all but this share of its answers."""
LIVE_CALLS = 200
"""Answers of the live version from which on latencies are compared."""
MOST_ALLOWED = 0.9


def breach(trial: CallTally, live: CallTally | None) -> str:
    """Why the version must stop, for people; empty: it need not.

    May be asked after every call: each limit has its own always-valid test.
    """
    allowed = FAILURES_ALLOWED
    if live is not None and live.calls:
        allowed = min(max(allowed, 2 * live.failures / live.calls), MOST_ALLOWED)
    if evidence(trial.failures, trial.calls, allowed) >= 1 / FALSE_ALARM:
        return f"{trial.failures} of {trial.calls} calls failed; {allowed:.1%} may"
    if live is None or len(live.recent_s) < LIVE_CALLS:
        return ""
    limit_s = SLOWER * live.latency_s(0.95) + SLOWER_S
    slow, answers = trial.slower_than(limit_s), len(trial.recent_s)
    if evidence(slow, answers, SLOW_ALLOWED) >= 1 / FALSE_ALARM:
        return (
            f"{slow} of {answers} answers took more than {1e3 * limit_s:.0f} ms, which is "
            f"{SLOWER:g} times the live version's 95th percentile and {1e3 * SLOWER_S:.0f} ms; "
            f"{SLOW_ALLOWED:.0%} may"
        )
    return ""
