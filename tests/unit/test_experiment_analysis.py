from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tea_tasting as tt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy import stats

from recmesh.offline.experiments.analysis import analyze, sample_ratio
from recmesh.offline.experiments.confidence_sequence import (
    always_valid_p,
    mixture_scale,
    radius,
)
from recmesh.offline.experiments.effect import ArmMoments, Effect
from recmesh.offline.experiments.guardrail import guardrail
from recmesh.offline.experiments.heterogeneity import interaction
from recmesh.offline.experiments.multiplicity import benjamini_hochberg, holm
from recmesh.offline.experiments.plan import AnalysisPlan, Metric
from recmesh.offline.experiments.preference import page_credit, preference
from recmesh.orchestrator.experiments.experiment import Arm, Experiment
from recmesh.storage.errors import DataError

CLICKS = Metric(name="clicks", numerator="clicks")
RATE = Metric(name="click-rate", numerator="clicks", denominator="views")
START = datetime(2026, 3, 1, tzinfo=UTC)
EXPERIMENT = Experiment(
    name="blend-weights",
    layer="ranking",
    arms=(Arm(name="control", share=0.5), Arm(name="tuned", share=0.5)),
    first_bucket=0,
    buckets=10_000,
    starts_at=START,
    ends_at=START + timedelta(days=14),
)


def plan(*metrics: Metric, **changed: Any) -> AnalysisPlan:
    fields: dict[str, Any] = {"experiment": EXPERIMENT, "metrics": metrics, "planned_units": 4000}
    return AnalysisPlan.model_validate(fields | changed)


def units(n: int, lift: float, seed: int = 0) -> pa.Table:
    """Doctors with habits: views and clicks before tell much of those after."""
    rng = np.random.default_rng(seed)
    habit = rng.gamma(2.0, 1.0, n)
    tuned = rng.random(n) < 0.5
    views = 1 + rng.poisson(3 * habit)
    rate = np.where(tuned, 0.2 * (1 + lift), 0.2)
    return pa.table(
        {
            "arm": np.where(tuned, "tuned", "control"),
            "views": views,
            "clicks": rng.binomial(views, rate),
            "clicks_before": rng.poisson(0.6 * habit),
            "country": rng.choice(["DE", "FR"], n),
        }
    )


def effect_of(difference: float, error: float, units_: int = 4000, control: float = 1.0) -> Effect:
    treatment = control + difference
    return Effect(
        control=control,
        treatment=treatment,
        difference=difference,
        standard_error=error,
        log_ratio=math.log(treatment / control),
        log_ratio_error=error / control,
        units=units_,
    )


def test_a_difference_of_means_by_hand() -> None:
    table = pa.table({"arm": ["control"] * 3 + ["tuned"] * 3, "clicks": [0, 1, 2, 2, 3, 7]})
    found = ArmMoments(table, (CLICKS,)).effect(CLICKS, "control", "tuned")
    assert (found.control, found.treatment, found.units) == (1.0, 4.0, 6)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 3 + 7 / 3))
    assert found.interval(0.05)[0] == pytest.approx(3 - 1.959964 * math.sqrt(8 / 3))
    assert found.p == pytest.approx(2 * stats.norm.sf(3 / math.sqrt(8 / 3)))
    # Each logarithm's variance is the mean's over its square.
    assert found.log_ratio_error == pytest.approx(math.sqrt(1 / 3 + 7 / 3 / 16))


def test_a_ratio_has_the_error_of_its_units_influences() -> None:
    table = units(2000, 0.3)
    found = ArmMoments(table, (RATE,)).effect(RATE, "control", "tuned")
    variance = 0.0
    for arm in ("control", "tuned"):
        at = np.array(table["arm"]) == arm
        clicks, views = np.array(table["clicks"])[at], np.array(table["views"])[at]
        influence = (clicks - clicks.sum() / views.sum() * views) / views.mean()
        variance += influence.var(ddof=1) / at.sum()
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_covariates_take_out_the_variance_they_explain() -> None:
    table = units(2000, 0.3)
    adjusted = CLICKS.model_copy(update={"numerator_covariate": "clicks_before"})
    plain = ArmMoments(table, (CLICKS,)).effect(CLICKS, "control", "tuned")
    cuped = ArmMoments(table, (adjusted,)).effect(adjusted, "control", "tuned")
    rho = np.corrcoef(table["clicks"], table["clicks_before"])[0, 1]
    assert cuped.standard_error / plain.standard_error == pytest.approx(
        math.sqrt(1 - rho**2), rel=0.02
    )


def test_a_confidence_sequence_is_tightest_where_it_was_planned() -> None:
    radii = {n: float(radius(1.0, 5000, mixture_scale(n, 0.05), 0.05)) for n in (500, 5000, 50_000)}
    assert min(radii, key=radii.__getitem__) == 5000
    near = [float(radius(1.0, 5000, mixture_scale(n, 0.05), 0.05)) for n in (4900, 5100)]
    assert radii[5000] < min(near)
    # At the planned end it costs half as much again as a fixed horizon.
    assert radii[5000] / 1.96 == pytest.approx(1.549, abs=0.001)


@given(z=st.floats(0.01, 20), n=st.integers(200, 10**7), planned=st.integers(200, 10**6))
def test_p_and_interval_agree(z: float, n: int, planned: int) -> None:
    scale = mixture_scale(planned, 0.05)
    p = float(always_valid_p(z, n, scale))
    if 0 < p < 1:
        assert float(radius(1.0, n, scale, p)) == pytest.approx(z, rel=1e-6)
    assert p >= 2 * stats.norm.sf(z) * 0.999


def test_nothing_is_claimed_before_the_fewest_units() -> None:
    assert radius(1.0, 199, 0.05, 0.05) == np.inf
    assert always_valid_p(50.0, 199, 0.05) == 1.0


def test_always_valid_rarely_errs_at_any_look_and_a_fixed_horizon_often_does() -> None:
    rng = np.random.default_rng(0)
    days, daily = 20, 100
    z = np.cumsum(rng.standard_normal((2000, days)), axis=1) / np.sqrt(np.arange(1, days + 1))
    n = daily * np.arange(1, days + 1)
    scale = mixture_scale(days * daily, 0.05)
    ever = (always_valid_p(z, n, scale) <= 0.05).any(axis=1).mean()
    peeked = (np.abs(z) >= 1.96).any(axis=1).mean()
    assert ever <= 0.05 < 0.2 < peeked


@given(hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(0, 1)))
def test_holm_by_its_definition(p: np.ndarray) -> None:
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    for alpha in (0.01, 0.05, 0.5):
        rejected = set()
        for step, i in enumerate(order):
            if p[i] * (len(p) - step) > alpha:
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(adjusted <= alpha).tolist()) >= rejected
        assert all(p[i] == p[order[len(rejected)]] for i in set(
            np.flatnonzero(adjusted <= alpha).tolist()) - rejected)  # fmt: skip


def test_corrections_are_those_of_the_library() -> None:
    table = tt.make_users_data(rng=1, orders_uplift=0.2)
    names = ("orders", "sessions", "revenue")
    found = tt.Experiment({name: tt.Mean(name) for name in names}).analyze(table)
    p = np.array([found[name].pvalue for name in names])
    strict = tt.adjust_fwer(found, method="bonferroni", arbitrary_dependence=True)
    lenient = tt.adjust_fdr(found)
    assert holm(p) == pytest.approx([row["pvalue_adj"] for row in strict.to_dicts()])
    assert benjamini_hochberg(p) == pytest.approx([r["pvalue_adj"] for r in lenient.to_dicts()])


def test_guardrails_are_held_broken_or_open() -> None:
    scale = mixture_scale(4000, 0.05)
    rail = Metric(name="saves", numerator="saves", margin=0.05)
    states = [
        guardrail(effect_of(difference, 0.01), rail, scale, 0.05).verdict
        for difference in (0.0, -0.045, -0.1)
    ]
    assert states == ["held", "open", "broken"]
    unwanted = Metric(name="dismissals", numerator="dismissals", margin=0.05, better="lower")
    states = [
        guardrail(effect_of(difference, 0.01), unwanted, scale, 0.05).verdict
        for difference in (0.0, 0.045, 0.1)
    ]
    assert states == ["held", "open", "broken"]
    early = guardrail(effect_of(-0.025, 0.01), rail, scale, 0.05)
    assert (early.verdict, early.always_valid) == ("held", "open")
    nothing = Effect(0.0, 0.1, 0.1, 0.1, math.nan, math.nan, 10)
    found = guardrail(nothing, rail, scale, 0.05)
    assert (found.verdict, found.always_valid, found.p) == ("open", "open", 1.0)


def test_interaction_by_hand() -> None:
    found = interaction({"a": effect_of(0.0, 1.0), "b": effect_of(3.0, 2.0)})
    assert found.pooled == pytest.approx(0.6)
    assert found.q == pytest.approx(0.36 + 2.4**2 / 4)
    assert found.p == pytest.approx(stats.chi2.sf(1.8, 1))
    assert interaction({"a": effect_of(5.0, 1.0)}).p == 1.0


def test_sample_ratio_mismatch() -> None:
    assert not sample_ratio({"a": 5050, "b": 4950}, {"a": 0.5, "b": 0.5}).mismatch
    assert sample_ratio({"a": 5200, "b": 4800}, {"a": 0.5, "b": 0.5}).mismatch
    assert not sample_ratio({"a": 9010, "b": 990}, {"a": 0.9, "b": 0.1}).mismatch
    assert sample_ratio({"a": 5000}, {"a": 0.5, "b": 0.5}).mismatch


def test_a_whole_analysis() -> None:
    rail = Metric(name="views", numerator="views", margin=0.1)
    found = analyze(units(4000, 0.3), plan(CLICKS, RATE, rail, slices=("country",)))
    assert not found.sample_ratio.mismatch
    assert [(r.arm, r.metric) for r in found.goals] == [
        ("tuned", "clicks"),
        ("tuned", "click-rate"),
    ]
    rate = found.goals[1]
    assert rate.p_holm < 0.001
    assert rate.always_valid_p_holm < 0.05
    low, high = rate.interval
    assert low < 0.06 < high
    assert rate.always_valid_interval[0] < low < high < rate.always_valid_interval[1]
    assert found.guardrails[0].guardrail.verdict == "held"
    assert {s.column for s in found.slices} == {"country"}
    assert all(set(s.effects) == {"DE", "FR"} and s.left_out == () for s in found.slices)
    assert all(s.p_benjamini_hochberg > 0.05 for s in found.slices)


def test_a_slice_that_differs_is_found_and_a_small_one_is_named() -> None:
    rng = np.random.default_rng(3)
    table = units(4000, 0.0)
    gains = (np.array(table["country"]) == "DE") & (np.array(table["arm"]) == "tuned")
    clicks = np.array(table["clicks"]) + rng.binomial(1, 0.5, 4000) * gains
    country = np.array(table["country"], dtype=object)
    country[:50] = "IT"
    changed = table.set_column(2, "clicks", pa.array(clicks))
    changed = changed.set_column(4, "country", pa.array(country, pa.string()))
    found = analyze(changed, plan(CLICKS, slices=("country",))).slices[0]
    assert found.p_benjamini_hochberg < 0.01
    assert found.effects["DE"].difference > 0.3
    assert found.left_out == ("IT",)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda t: t.drop_columns("clicks"), "no column clicks"),
        (lambda t: t.set_column(2, "clicks", pa.nulls(t.num_rows, pa.int64())), "nulls"),
        (lambda t: t.set_column(2, "clicks", pa.repeat(math.nan, t.num_rows)), "NaN"),
        (lambda t: t.set_column(0, "arm", pa.repeat("control", t.num_rows)), "tuned has 0 units"),
        (lambda t: t.set_column(0, "arm", pa.repeat("other", t.num_rows)), "other is not one of"),
        (lambda t: t.drop_columns("country"), "which is a slice"),
    ],
)
def test_data_that_cannot_be_analysed_are_refused(broken: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        analyze(broken(units(200, 0.0)), plan(CLICKS, slices=("country",)))


def test_plans_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValidationError, match="clicks is named twice"):
        plan(CLICKS, CLICKS)
    with pytest.raises(ValidationError, match="without numerator_covariate"):
        Metric(name="x", numerator="a", denominator="b", denominator_covariate="c")


def test_preference_by_hand() -> None:
    team = np.array([[0, 1, -1], [1, 0, -1], [0, 1, 1], [1, 0, 0]], np.int8)
    clicks = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], float)
    credit = page_credit(team, clicks)
    assert credit.tolist() == [1.0, 0.0, 2.0, -1.0]
    found = preference(credit, np.array([0, 0, 1, 3]))
    assert (found.wins, found.losses, found.ties, found.units) == (2, 1, 0, 3)
    assert found.credit == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(np.std([0.5, 2, -1], ddof=1) / math.sqrt(3))
    assert found.sign_p == pytest.approx(1.0)
    nobody = preference(np.zeros(3), np.arange(3))
    assert (nobody.p, nobody.sign_p, nobody.ties) == (1.0, 1.0, 3)
    with pytest.raises(DataError, match="1 units"):
        preference(np.ones(2), np.zeros(2, np.int64))


@pytest.mark.parametrize("treated", [1.0, 2.0])
def test_units_that_do_not_differ_have_an_effect_without_error(treated: float) -> None:
    metric = Metric(name="pages", numerator="pages", margin=0.5)
    table = pa.table({"arm": ["a", "b"] * 50, "pages": [1.0, treated] * 50})
    effect = ArmMoments(table, (metric,)).effect(metric, "a", "b")
    assert (effect.difference, effect.standard_error) == (treated - 1.0, 0.0)
    assert guardrail(effect, metric, 0.1, 0.05).verdict == "held"


def test_where_nothing_was_seen_before_nothing_is_adjusted() -> None:
    rng = np.random.default_rng(0)
    names = {"numerator": "clicks", "denominator": "views"}
    own = Metric(name="own", **names)
    before = {"numerator_covariate": "none", "denominator_covariate": "none"}
    adjusted = Metric(name="adjusted", **names, **before)
    clicks, none = rng.poisson(2, 100), np.zeros(100)
    table = pa.table(
        {"arm": ["a", "b"] * 50, "clicks": clicks, "views": np.full(100, 4), "none": none}
    )
    moments = ArmMoments(table, (own, adjusted))
    assert moments.effect(adjusted, "a", "b") == moments.effect(own, "a", "b")
