"""When requests are to start: Poisson, seeded, at the rate of each segment."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recmesh.cli.load_generation.arrivals import poisson_arrivals
from recmesh.cli.load_generation.rate_profile import Segment, daily, parse_profile, steps
from recmesh.storage.errors import ConfigurationError


def test_gaps_are_exponential_with_the_mean_asked_for() -> None:
    arrivals = poisson_arrivals([Segment(100, 100)], np.random.default_rng(1))
    gaps = np.diff(arrivals.at_s)
    assert stats.kstest(gaps, "expon", args=(0, 1 / 100)).pvalue > 0.01
    assert gaps.mean() == pytest.approx(0.01, rel=0.03)
    # Even spacing and a lag between neighbours would both show.
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.03


def test_counts_of_seconds_vary_as_poissons_do() -> None:
    arrivals = poisson_arrivals([Segment(50, 400)], np.random.default_rng(2))
    counts = np.bincount(arrivals.at_s.astype(int), minlength=400)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.2)


def test_each_segment_has_its_rate() -> None:
    profile = steps([20, 200, 20], 50)
    arrivals = poisson_arrivals(profile, np.random.default_rng(3))
    assert np.all(np.diff(arrivals.at_s) >= 0)
    for place, segment in enumerate(profile):
        at_s = arrivals.at_s[arrivals.segment == place]
        assert 50 * place <= at_s.min()
        assert at_s.max() <= 50 * (place + 1)
        expected = segment.rate_per_s * segment.seconds
        assert abs(at_s.size - expected) < 4 * expected**0.5


def test_a_seed_gives_one_schedule() -> None:
    def drawn(seed: int) -> np.ndarray:
        return poisson_arrivals([Segment(5, 20)], np.random.default_rng(seed)).at_s

    assert drawn(1).tolist() == drawn(1).tolist()
    assert drawn(1).tolist() != drawn(2).tolist()


def test_a_day_rises_to_its_peak_and_falls() -> None:
    day = daily(100, 240)
    rates = [segment.rate_per_s for segment in day]
    assert sum(segment.seconds for segment in day) == pytest.approx(240)
    assert rates == pytest.approx(rates[::-1])
    assert rates[:12] == sorted(rates[:12])
    assert 99 < max(rates) <= 100
    assert 10 <= min(rates) < 11


def test_profiles_are_read() -> None:
    assert parse_profile("step:50,200,50x20s") == steps([50, 200, 50], 20)
    assert parse_profile("step:5x1.5") == (Segment(5, 1.5),)
    assert parse_profile("daily:200x600s") == daily(200, 600)


@pytest.mark.parametrize(
    "text", ["step", "step:", "step:50,x20", "step:0x20", "step:5x0", "daily:1,2x9", "flat:5x1"]
)
def test_another_profile_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"step:50,200,50x20s"):
        parse_profile(text)
