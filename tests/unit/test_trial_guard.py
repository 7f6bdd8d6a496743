"""Versions that some pages ask: when they are stopped, and how they are compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.model_trials.agreement import overlap, rank_correlation
from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.excess import evidence
from recmesh.orchestrator.model_trials.guard import FALSE_ALARM, LIVE_CALLS, breach


def tally(answers: int, failures: int = 0, took_s: float = 0.01) -> CallTally:
    made = CallTally()
    for number in range(answers + failures):
        made.add(took_s, answered=number < answers)
    return made


def test_a_version_within_the_limits_is_stopped_as_rarely_as_promised() -> None:
    # Looked at after each of 2,000 calls, at exactly the rate that is allowed: at level 1 in 20
    # at most 5% of the runs may ever be stopped (Ville's inequality).
    rng = np.random.default_rng(7)
    stopped = 0
    for _ in range(200):
        failures = np.cumsum(rng.random(2000) < 0.05)
        looks = range(9, 2000, 10)
        stopped += any(evidence(int(failures[n]), n + 1, 0.05) >= 20 for n in looks)
    assert stopped / 200 <= 0.05


@given(calls=st.integers(1, 10**6), share=st.floats(0, 1), allowed=st.floats(1e-4, 0.95))
def test_evidence_is_a_number_that_grows_with_failures(
    calls: int, share: float, allowed: float
) -> None:
    failures = int(calls * share)
    found = evidence(failures, calls, allowed)
    assert found >= 0
    if failures < calls:
        assert evidence(failures + 1, calls, allowed) >= found


def test_one_that_always_fails_is_stopped_after_a_handful_of_calls() -> None:
    assert not breach(tally(0, 2), tally(1000))
    assert breach(tally(0, 4), tally(1000)) == "4 of 4 calls failed; 2.0% may"


def test_one_is_not_stopped_for_failures_that_the_live_one_has_too() -> None:
    assert not breach(tally(80, 20), tally(800, 200))
    assert breach(tally(80, 20), tally(1000))


def test_one_that_is_slow_is_stopped_once_the_live_one_is_known() -> None:
    live = tally(LIVE_CALLS)
    assert not breach(tally(50, took_s=0.025), live)
    assert "50 of 50 answers took more than 25 ms" in breach(tally(50, took_s=0.1), live)
    assert not breach(tally(50, took_s=0.1), tally(LIVE_CALLS - 1))
    assert not breach(tally(50, took_s=0.1), None)


def test_the_allowed_rate_must_be_a_rate() -> None:
    with pytest.raises(ValueError, match="allowed is 0"):
        evidence(1, 1, 0.0)
    assert FALSE_ALARM < 0.001


def test_overlap_is_of_the_longer_list() -> None:
    assert overlap(["a", "b"], ["b", "c"]) == 0.5
    assert overlap(["a"], ["a", "b", "c", "d"]) == 0.25
    assert overlap([], []) is None


def test_rank_correlation_is_spearmans() -> None:
    first = np.array([1, 2, 2, 4, np.nan, 9], np.float32)
    second = np.array([10, 30, 20, 20, 50, np.nan], np.float32)
    # By hand: ranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5.
    assert rank_correlation(first, second) == pytest.approx(0.5)
    assert rank_correlation(first, 2 * first) == pytest.approx(1.0)
    assert rank_correlation(first, np.ones(6, np.float32)) is None
