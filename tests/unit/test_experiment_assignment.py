from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from recmesh.orchestrator.experiments.assignment import arm_of, assign, bucket, held_out
from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    Experiment,
    ExperimentBook,
    Layer,
    require_successor,
)
from recmesh.storage.errors import ConfigurationError

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = (START + timedelta(days=1)).timestamp()
CONTROL: dict[str, Any] = {"name": "control", "share": 0.5}
TUNED: dict[str, Any] = {"name": "tuned", "share": 0.5}
OF_CAMPAIGNS = (CONTROL, TUNED | {"takes_part": False})
UNITS = [f"d{i:06d}" for i in range(20_000)]


def experiment(**changed: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "blend-weights",
        "layer": "ranking",
        "arms": ({"name": "control", "share": 0.5}, {"name": "tuned", "share": 0.5}),
        "first_bucket": 0,
        "buckets": BUCKETS,
        "starts_at": START,
        "ends_at": START + timedelta(days=14),
    }
    return Experiment.model_validate(fields | changed)


def book(*experiments: Experiment, **changed: Any) -> ExperimentBook:
    layers = {e.layer: Layer(name=e.layer, salt=f"{e.layer}-2026") for e in experiments}
    return ExperimentBook(layers=tuple(layers.values()), experiments=experiments, **changed)


def p_of_uniform(counts: np.ndarray, shares: np.ndarray | None = None) -> float:
    expected = None if shares is None else shares * counts.sum()
    return float(stats.chisquare(counts, expected).pvalue)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_a_unit_stays_where_it_is(salt: str, unit: str) -> None:
    assert bucket(salt, unit) == bucket(salt, unit)
    assert 0 <= bucket(salt, unit) < BUCKETS


def test_the_hash_never_changes() -> None:
    """Another value would move units of running experiments. Printed by ``b2sum -l 64``."""
    assert [bucket("ranking-2026", unit) for unit in ("d000001", "d000002", "é")] == [
        608,
        644,
        4597,
    ]


def test_salt_and_unit_cannot_run_together() -> None:
    assert bucket("ab", "c") != bucket("a", "bc")


def test_buckets_are_uniform() -> None:
    at = np.array([bucket("ranking-2026", unit) for unit in UNITS])
    assert p_of_uniform(np.bincount(at // 100, minlength=100)) > 0.001


def test_layers_are_independent_of_each_other_and_of_the_arms() -> None:
    first = np.array([bucket("ranking-2026", unit) for unit in UNITS]) // 1000
    second = np.array([bucket("surface-2026", unit) for unit in UNITS]) // 1000
    table = np.zeros((10, 10))
    np.add.at(table, (first, second), 1)
    assert stats.chi2_contingency(table).pvalue > 0.001
    layer = Layer(name="ranking", salt="ranking-2026")
    tuned = np.array([arm_of(experiment(), layer, unit) == "tuned" for unit in UNITS])
    by_bucket = np.stack([np.bincount(first, ~tuned), np.bincount(first, tuned)])
    assert stats.chi2_contingency(by_bucket).pvalue > 0.001
    again = experiment(name="blend-weights-2")
    other = np.array([arm_of(again, layer, unit) == "tuned" for unit in UNITS])
    both = np.array([[(a & b).sum() for a in (tuned, ~tuned)] for b in (other, ~other)])
    assert stats.chi2_contingency(both).pvalue > 0.001


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.34, 0.33, 0.33)])
def test_arms_get_their_shares(shares: tuple[float, ...]) -> None:
    arms = tuple({"name": f"arm-{i}", "share": share} for i, share in enumerate(shares))
    whole = book(experiment(arms=arms))
    got = [assign(whole, unit, NOW)["blend-weights"] for unit in UNITS]
    counts = np.array([got.count(f"arm-{i}") for i in range(len(shares))])
    assert p_of_uniform(counts, np.array(shares)) > 0.001


@given(
    ramps=st.lists(st.floats(0, 1), min_size=2, max_size=5).map(sorted),
    units=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30, unique=True),
    first=st.integers(0, BUCKETS - 1),
    width=st.integers(1, BUCKETS),
)
def test_a_ramp_only_adds_units_and_moves_none(
    ramps: list[float], units: list[str], first: int, width: int
) -> None:
    width = min(width, BUCKETS - first)
    before: dict[str, str] = {}
    for ramp in ramps:
        step = experiment(first_bucket=first, buckets=width, ramp=ramp)
        after = {u: a for u in units for a in assign(book(step), u, NOW).values()}
        assert before.items() <= after.items()
        before = after


def test_a_ramp_reaches_its_share_of_units() -> None:
    taken = sum(bool(assign(book(experiment(ramp=0.25)), unit, NOW)) for unit in UNITS)
    assert stats.binomtest(taken, len(UNITS), 0.25).pvalue > 0.001
    assert not any(assign(book(experiment(ramp=0.0)), unit, NOW) for unit in UNITS[:500])


def test_experiments_of_a_layer_share_no_unit_and_those_of_two_layers_do() -> None:
    left = experiment(name="left", buckets=6000)
    right = experiment(name="right", first_bucket=6000, buckets=4000)
    other = experiment(name="other", layer="search")
    whole = book(left, right, other)
    got = [set(assign(whole, unit, NOW)) for unit in UNITS[:2000]]
    assert all(len(names & {"left", "right"}) == 1 and "other" in names for names in got)


def test_the_holdout_takes_part_in_nothing_and_only_grows() -> None:
    small = book(experiment(), holdout_share=0.05)
    large = book(experiment(), holdout_share=0.1)
    out = {unit for unit in UNITS if held_out(small, unit)}
    assert stats.binomtest(len(out), len(UNITS), 0.05).pvalue > 0.001
    assert all(assign(small, unit, NOW) == {} for unit in out)
    assert all(held_out(large, unit) for unit in out)
    kept = next(unit for unit in UNITS if not held_out(large, unit))
    assert assign(small, kept, NOW) == assign(large, kept, NOW) != {}


def test_dates_and_the_kill_switch() -> None:
    whole = book(experiment())
    end = START + timedelta(days=14)
    assert assign(whole, "d1", START.timestamp())
    assert not assign(whole, "d1", START.timestamp() - 1)
    assert assign(whole, "d1", end.timestamp() - 1)
    assert not assign(whole, "d1", end.timestamp())
    assert not assign(book(experiment(killed=True)), "d1", NOW)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": ({"name": "a", "share": 0.5}, {"name": "b", "share": 0.4})}, "add up to 0.9"),
        ({"arms": ({"name": "a", "share": 0.5}, {"name": "a", "share": 0.5})}, "a is named twice"),
        ({"arms": ({"name": "a", "share": 1.0},)}, "at least 2 items"),
        ({"arms": ({"name": "a", "share": 0.99999}, {"name": "b", "share": 1e-5})}, "smallest"),
        ({"name": "Blend Weights"}, "pattern"),
        ({"first_bucket": 9000, "buckets": 1001}, "goes past the layer's 10000"),
        ({"ends_at": START}, "is not after starts_at"),
        ({"starts_at": datetime(2026, 3, 1)}, "timezone"),  # noqa: DTZ001
        ({"ramp": 1.5}, "less than or equal to 1"),
        ({"arms": (CONTROL, TUNED | {"name": "interleaved"})}, "the name for pages of both"),
        ({"arms": (CONTROL, TUNED | {"takes_part": False})}, "for the unit campaign"),
        ({"unit": "campaign"}, "at least one does not"),
        ({"unit": "campaign", "arms": (CONTROL, TUNED | {"policy": "p"})}, "nothing else"),
        ({"unit": "campaign", "arms": OF_CAMPAIGNS, "surfaces": ["feed"]}, "on all of them"),
        ({"kind": "interleave", "surfaces": ["feed"]}, "both are the same"),
        ({"kind": "interleave", "arms": (CONTROL, TUNED | {"policy": "p"})}, "say where"),
        (
            {"kind": "interleave", "arms": (CONTROL | {"share": 0.4}, TUNED | {"share": 0.6})},
            "half and half",
        ),
        (
            {"kind": "interleave", "arms": (CONTROL, TUNED | {"without_campaigns": ["c"]})},
            "no campaigns to leave out",
        ),
    ],
)
def test_what_cannot_work_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        experiment(**changed)


def test_books_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValidationError, match="left and right share bucket 500 of layer ranking"):
        book(experiment(name="left", buckets=501), experiment(name="right", first_bucket=500,
             buckets=10))  # fmt: skip
    with pytest.raises(ValidationError, match="blend-weights is named twice"):
        book(experiment(buckets=10), experiment(first_bucket=10, buckets=10))
    with pytest.raises(ValidationError, match="layer ranking, which is not defined"):
        ExperimentBook(experiments=(experiment(),))
    with pytest.raises(ValidationError, match="salt 'same' is used twice"):
        ExperimentBook(layers=(Layer(name="a", salt="same"), Layer(name="b", salt="same")))


def test_buckets_are_free_again_once_an_experiment_is_over() -> None:
    later = {"starts_at": START + timedelta(days=14), "ends_at": START + timedelta(days=28)}
    for first in (experiment(name="first"), experiment(name="first", killed=True)):
        book(first, experiment(name="second", **later))
    book(experiment(name="first", killed=True), experiment(name="second"))
    book(experiment(name="first"), experiment(name="second", unit="campaign", arms=OF_CAMPAIGNS))


def test_one_experiment_at_a_time_says_how_a_page_is_made() -> None:
    steering = (CONTROL, TUNED | {"policy": "p"})
    feed = experiment(name="feed", arms=steering, surfaces=["feed"])
    for other in (
        {"surfaces": ["feed", "swipe"]},
        {"surfaces": []},
        {"surfaces": ["feed"], "arms": (CONTROL, TUNED | {"embedding": "e"})},
    ):
        fields = {"name": "other", "layer": "other", "arms": steering} | other
        with pytest.raises(ValidationError, match="put them in one layer"):
            book(feed, experiment(**fields))
    fields = {"name": "other", "layer": "other"}
    book(feed, experiment(**fields, arms=steering, surfaces=["swipe"]))
    book(feed, experiment(**fields, arms=(CONTROL, TUNED | {"without_campaigns": ["c"]})))


def test_pages_of_both_arms_are_of_no_arm() -> None:
    arms = (CONTROL, TUNED | {"policy": "p"})
    drafted = book(experiment(kind="interleave", arms=arms, surfaces=["feed"]))
    got = [assign(drafted, unit, NOW) for unit in UNITS[:50]]
    assert got == [{"blend-weights": "interleaved"}] * 50


def test_units_and_surfaces_are_told_apart() -> None:
    whole = book(
        experiment(name="doctors", surfaces=["feed"]),
        experiment(name="campaigns", unit="campaign", arms=OF_CAMPAIGNS),
    )
    assert set(assign(whole, "x", NOW)) == {"doctors"}
    assert set(assign(whole, "x", NOW, unit="campaign")) == {"campaigns"}
    assert set(assign(whole, "x", NOW, surface="feed")) == {"doctors"}
    assert set(assign(whole, "x", NOW, surface="swipe")) == set()


def test_a_running_experiment_moves_no_unit() -> None:
    now = experiment(ramp=0.2)
    require_successor(now, experiment(ramp=0.5))
    require_successor(now, experiment(ramp=0.2, killed=True))
    for changed, message in (
        ({"ramp": 0.1}, "ramp cannot fall from 0.2 to 0.1"),
        ({"ramp": 0.2, "first_bucket": 1, "buckets": 10}, "first_bucket cannot change"),
        ({"ramp": 0.2, "layer": "search"}, "layer cannot change"),
        ({"ramp": 0.2, "surfaces": ["feed"]}, "surfaces cannot change"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            require_successor(now, experiment(**changed))
    with pytest.raises(ConfigurationError, match="it was killed"):
        require_successor(experiment(killed=True), experiment())
