"""Versions that some pages ask: when they are stopped, and how they are compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.model_trials.agreement import overlap, rank_correlation
from recmesh.orchestrator.model_trials.call_tally import CallTally
from recmesh.orchestrator.model_trials.excess import ExcessDetector
from recmesh.orchestrator.model_trials.guard import LIVE_ANSWERS, TrialGuard


def tally(answers: int, failures: int = 0, took_s: float = 0.01) -> CallTally:
    made = CallTally()
    for number in range(answers + failures):
        made.add(took_s, answered=number < answers)
    return made


def stopped_at(failing: list[bool], allowed: float, threshold: float) -> int | None:
    detector = ExcessDetector()
    for number, failed in enumerate(failing):
        if detector.add(int(failed), 1, allowed) >= threshold:
            return number + 1
    return None


def test_false_alarms_are_as_rare_as_promised() -> None:
    # At exactly the rate that is allowed, 200 calls or more pass on average before one.
    rng = np.random.default_rng(7)
    runs = [stopped_at((rng.random(4000) < 0.05).tolist(), 0.05, 200) or 4000 for _ in range(60)]
    assert np.mean(runs) >= 200


@given(calls=st.integers(1, 10**6), share=st.floats(0, 1), allowed=st.floats(1e-4, 0.95))
def test_evidence_is_a_number_that_grows_with_failures(
    calls: int, share: float, allowed: float
) -> None:
    failures = int(calls * share)
    found = ExcessDetector().add(failures, calls, allowed)
    assert found >= 0
    if failures < calls:
        assert ExcessDetector().add(failures + 1, calls, allowed) >= found


def test_one_that_always_fails_is_stopped_after_a_handful_of_calls() -> None:
    assert not TrialGuard().breach(tally(0, 3), tally(1000))
    assert TrialGuard().breach(tally(0, 5), tally(1000)) == (
        "5 of its last 5 calls failed; 2.0% may"
    )


def test_one_that_was_good_for_long_is_stopped_as_fast() -> None:
    guard, trial = TrialGuard(), tally(5000, 40)
    assert not guard.breach(trial, tally(1000))
    for _ in range(6):
        trial.add(0.0, answered=False)
    assert guard.breach(trial, tally(1000)).startswith("6 of its last 6 calls failed")


def test_one_is_not_stopped_for_failures_that_the_live_one_has_too() -> None:
    assert not TrialGuard().breach(tally(80, 20), tally(800, 200))
    assert TrialGuard().breach(tally(80, 20), tally(1000))


def test_one_that_is_slow_is_stopped_once_the_live_one_is_known() -> None:
    live, slow = tally(LIVE_ANSWERS), tally(50, took_s=0.1)
    assert not TrialGuard().breach(tally(50, took_s=0.025), live)
    assert "50 of its last 50 answers took more than 25 ms" in TrialGuard().breach(slow, live)
    assert not TrialGuard().breach(slow, tally(LIVE_ANSWERS - 1))
    assert not TrialGuard().breach(slow, None)


def test_what_was_looked_at_before_counts_once() -> None:
    guard, trial = TrialGuard(), tally(0, 2)
    for _ in range(100):
        assert not guard.breach(trial, None)


def test_the_allowed_rate_must_be_a_rate() -> None:
    with pytest.raises(ValueError, match="allowed is 0"):
        ExcessDetector().add(1, 1, 0.0)


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
