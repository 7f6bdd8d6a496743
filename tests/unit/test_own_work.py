from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.deadline import Deadline
from recmesh.orchestrator.own_work import RECENT, OwnWork


def test_what_is_left_is_enough_for_nearly_all_recent_pages() -> None:
    work = OwnWork()
    assert work.enough_s == 0.0
    for _ in range(RECENT):
        work.took(0.01)
    work.took(9.0)
    assert work.enough_s == 0.01, "one page in many is no reason"
    for _ in range(RECENT):
        work.took(0.2)
    assert work.enough_s == 0.2, "on busy cores every page takes longer"


def test_sources_have_what_choosing_a_page_does_not_need() -> None:
    now_s = time.monotonic()
    assert Deadline.after(1.0).at_s - now_s == pytest.approx(0.9, abs=0.05)
    assert Deadline.after(1.0, own_work_s=0.2).at_s - now_s == pytest.approx(0.7, abs=0.05)


@given(budget_s=st.floats(0.0051, 60.0), own_work_s=st.floats(0.0, 60.0))
def test_sources_always_have_half_of_the_time_but_for_the_least(
    budget_s: float, own_work_s: float
) -> None:
    left_s = Deadline.after(budget_s, own_work_s).remaining_s()
    assert left_s <= budget_s - 0.005
    assert left_s >= min(0.5 * budget_s, budget_s - 0.005) - 0.05
