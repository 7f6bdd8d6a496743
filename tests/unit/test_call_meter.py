import pytest

from recmesh.deployments.call_meter import CallMeter


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_mean_inflight_is_the_integral_over_time() -> None:
    clock = Clock()
    meter = CallMeter(clock)
    first = meter.begin()
    clock.now_s = 1.0
    second = meter.begin()
    clock.now_s = 2.0
    meter.end(first)
    clock.now_s = 4.0
    # One call in the first second, two in the second, one in the last two: 5 call-seconds.
    assert meter.take_mean_inflight() == pytest.approx(5 / 4)
    clock.now_s = 5.0
    meter.end(second)
    clock.now_s = 6.0
    assert meter.take_mean_inflight() == pytest.approx(1 / 2)
    assert (meter.inflight, meter.requests) == (0, 2)


def test_the_median_is_of_recent_calls() -> None:
    clock = Clock()
    meter = CallMeter(clock)
    assert meter.p50_ms == 0.0
    for duration_s in [9.0] * 100 + [0.002] * 256:
        started_s = meter.begin()
        clock.now_s += duration_s
        meter.end(started_s)
    assert meter.p50_ms == pytest.approx(2.0)
