"""Where the knee is, for meshes whose capacity is known."""

from __future__ import annotations

import pytest

from recmesh.cli.load_generation.load_row import LoadRow, SurfaceRow
from recmesh.cli.load_generation.sweep import FACTOR, Sweep


def row(rate_per_s: float, capacity_per_s: float, lag_ms: float = 0.0) -> LoadRow:
    holds = rate_per_s <= capacity_per_s
    total = SurfaceRow(100, rate_per_s, 5, 6, 7 if holds else None, None, 0.0, {"OK": 100})
    return LoadRow(rate_per_s, 1, 500, rate_per_s, rate_per_s, lag_ms, total, {})


def swept(capacity_per_s: float, first_per_s: float = 10, lag_ms: float = 0.0) -> Sweep:
    sweep = Sweep(first_per_s)
    while (rate_per_s := sweep.next_per_s()) is not None:
        sweep.rows.append(row(rate_per_s, capacity_per_s, lag_ms))
        assert len(sweep.rows) < 40
    return sweep


@pytest.mark.parametrize("capacity_per_s", [10, 11, 37, 100, 223.5, 5000])
def test_the_knee_is_within_an_eighth_below_capacity(capacity_per_s: float) -> None:
    knee = swept(capacity_per_s).knee
    assert knee is not None
    assert capacity_per_s / (FACTOR**0.25 * 1.03) <= knee.rate_per_s <= capacity_per_s


def test_rates_rise_by_half_then_two_lie_between() -> None:
    assert [row.rate_per_s for row in swept(20).rows] == [
        *(10, 15, 22.5, 22.5),
        *(18.4, 20.3, 20.3),
    ]


def test_a_first_rate_that_does_not_hold_is_no_knee() -> None:
    sweep = swept(5)
    assert sweep.knee is None
    assert "lower with --rate" in sweep.verdict()
    assert len(sweep.rows) == 2


def test_a_rate_that_holds_when_tried_again_holds() -> None:
    sweep = Sweep(10, [row(10, 100), row(15, 10)])
    assert sweep.next_per_s() == 15
    sweep.rows.append(row(15, 100))
    assert sweep.beyond is None
    assert sweep.next_per_s() == 22.5


def test_a_knee_that_may_be_the_generators_is_said_to_be() -> None:
    assert "the generator itself" in swept(100, lag_ms=200).verdict()
    assert "the generator itself" not in swept(100).verdict()


def test_a_rate_that_fails_after_a_higher_one_held_bounds_the_knee() -> None:
    held = [row(rate, 100) for rate in (10, 15, 33.8, 18.4)]
    sweep = Sweep(10, [*held, row(22.5, 10), row(22.5, 10)])
    assert sweep.knee is not None
    assert sweep.knee.rate_per_s == 18.4


@pytest.mark.parametrize(
    ("lag_ms", "p99_ms", "reliable"),
    [(4, 7, True), (6, 7, False), (6, 61, True), (49, None, True), (51, None, False)],
)
def test_the_generators_lag_may_be_a_tenth(
    lag_ms: float, p99_ms: float | None, reliable: bool
) -> None:
    total = SurfaceRow(100, 1, 1, 1, p99_ms, None, 0.0, {})
    assert LoadRow(1, 1, 500, 1, 1, lag_ms, total, {}).reliable is reliable
