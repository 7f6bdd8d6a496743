"""Whether the statistics of experiments err as often as they say, and find what is there.

python -m benchmarks.experiment_checks [--runs 1000]

Simulated doctors whose habits before the experiment tell much of those during it. Every rate is
printed with the range that 99% of runs of a right method would fall in. Two minutes of a core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tea_tasting as tt
from scipy import stats

from recmesh.offline.experiments.analysis import MISMATCH_P, sample_ratio
from recmesh.offline.experiments.confidence_sequence import always_valid_p, mixture_scale
from recmesh.offline.experiments.effect import ArmMoments, Effect
from recmesh.offline.experiments.guardrail import guardrail
from recmesh.offline.experiments.heterogeneity import interaction
from recmesh.offline.experiments.multiplicity import benjamini_hochberg, holm
from recmesh.offline.experiments.plan import Metric
from recmesh.offline.experiments.preference import page_credit, preference
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.truth import Truth
from recmesh.orchestrator.experiments.assignment import bucket
from recmesh.orchestrator.experiments.interleaving import team_draft

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

ALPHA = 0.05
UNITS = 2000
DAYS = 28
CLICK_RATE = 0.1
CLICKS = Metric(name="clicks", numerator="clicks")
CUPED = CLICKS.model_copy(update={"name": "clicks-cuped", "numerator_covariate": "before"})
RATE = Metric(name="click-rate", numerator="clicks", denominator="views")
METRICS = (CLICKS, CUPED, RATE)


def say(what: str, hits: int, runs: int, nominal: float, at_most: bool = False) -> None:
    """Prints a rate beside what a right method gives."""
    low, high = stats.binom.interval(0.99, runs, nominal)
    fine = hits <= high and (at_most or hits >= low)
    expected = f"≤ {high / runs:.3f}" if at_most else f"{low / runs:.3f} to {high / runs:.3f}"
    print(f"{what:<66} {hits / runs:.3f}   {expected:<16} {'ok' if fine else 'NOT OK'}")


def doctors(n: int, lift: float, rng: np.random.Generator) -> pa.Table:
    """Views and clicks of doctors in two arms; their clicks before foretell those after."""
    habit = rng.gamma(0.8, 1.25, n)
    tuned = rng.random(n) < 0.5
    views = 1 + rng.poisson(20 * habit)
    rate = np.where(tuned, CLICK_RATE * (1 + lift), CLICK_RATE)
    return pa.table(
        {
            "arm": np.where(tuned, "tuned", "control"),
            "views": views,
            "clicks": rng.binomial(views, rate),
            "before": rng.poisson(20 * CLICK_RATE * habit),
        }
    )


def effects(table: pa.Table, metrics: tuple[Metric, ...] = METRICS) -> list[Effect]:
    """Of every metric, by the product's analysis."""
    moments = ArmMoments(table, metrics)
    return [moments.effect(metric, "control", "tuned") for metric in metrics]


def one_look(runs: int, rng: np.random.Generator) -> None:
    """False finds of planned looks, one metric and several."""
    p = np.array([[e.p for e in effects(doctors(UNITS, 0.0, rng))] for _ in range(runs)])
    for column, metric in enumerate(METRICS):
        say(f"A/A, one look, {metric.name}", int((p[:, column] <= ALPHA).sum()), runs, ALPHA)
    many = rng.random((runs, 5))
    say("any of 5 metrics, uncorrected", int((many.min(1) <= ALPHA).sum()), runs, 1 - 0.95**5)
    say("any of 5 metrics, Holm", int((holm(many) <= ALPHA).any(1).sum()), runs, ALPHA, True)
    say("any of the 3 metrics above, Holm", int((holm(p) <= ALPHA).any(1).sum()), runs, ALPHA, True)


class DailyLooks:
    """Estimates after each day of many experiments at once; all arrays ``[runs, days]``."""

    def __init__(self, runs: int, joining: bool, lift: float, rng: np.random.Generator) -> None:
        """Units join daily and are counted once (``joining``), or are there from day 1 and click
        on: their clicks until now are what is compared.
        """
        shape = (runs, UNITS)
        habit = rng.gamma(0.8, 1.25, shape)
        tuned = rng.random(shape) < 0.5
        rate = np.where(tuned, CLICK_RATE * (1 + lift), CLICK_RATE)
        before = rng.poisson(20 * CLICK_RATE * habit).astype(np.float64)
        views = 1.0 + rng.poisson(20 * habit) if joining else np.ones(shape)
        clicks = rng.binomial(views.astype(np.int64), rate).astype(np.float64)
        self.n = np.zeros((runs, DAYS))
        self.z = {metric.name: np.zeros((runs, DAYS)) for metric in METRICS}
        for day in range(DAYS):
            joined = UNITS * (day + 1) // DAYS if joining else UNITS
            if not joining:
                more = rng.poisson(20 * habit / DAYS)
                views += more
                clicks += rng.binomial(more, rate)
            now = slice(0, joined)
            self.n[:, day] = joined
            y, x, arm = clicks[:, now], before[:, now], tuned[:, now]
            ones = np.ones_like(y)
            self.z[CLICKS.name][:, day] = _z_of_ratios(y, ones, arm)
            centred = x - x.mean(1, keepdims=True)
            slope = (centred * y).sum(1) / np.square(centred).sum(1)
            self.z[CUPED.name][:, day] = _z_of_ratios(y - slope[:, None] * centred, ones, arm)
            self.z[RATE.name][:, day] = _z_of_ratios(y, views[:, now], arm)


def _z_of_ratios(numerator: Float64, denominator: Float64, tuned: npt.NDArray[np.bool_]) -> Float64:
    """z of the difference of two arms' ratios of means ``[runs]``, of ``[runs, units]``.

    The delta method for all runs at once; with denominators of 1 it is Welch's.
    """
    total = np.zeros(len(numerator))
    variance = np.zeros(len(numerator))
    for sign, arm in ((1.0, tuned), (-1.0, ~tuned)):
        n = arm.sum(1)
        ratio = (numerator * arm).sum(1) / (denominator * arm).sum(1)
        influence = (numerator - ratio[:, None] * denominator) * arm
        level = (denominator * arm).sum(1) / n
        total += sign * ratio
        variance += np.square(influence).sum(1) / (n - 1) / n / np.square(level)
    return np.asarray(total / np.sqrt(variance))


def peeking(runs: int, rng: np.random.Generator) -> None:
    """False finds of daily looks, always-valid and not, and what always-valid costs in power."""
    scale = mixture_scale(UNITS, ALPHA)
    for joining, name in ((True, "doctors join daily"), (False, "all there, clicking on")):
        looks = DailyLooks(runs, joining, 0.0, rng)
        for metric, z in looks.z.items():
            ever = (always_valid_p(z, looks.n, scale) <= ALPHA).any(1)
            say(f"A/A, {DAYS} daily looks, {name}, {metric}: always-valid", int(ever.sum()), runs,
                ALPHA, True)  # fmt: skip
            fixed = (2 * stats.norm.sf(np.abs(z)) <= ALPHA).any(1)
            print(f"{'  the same with a fixed-horizon test at every look':<66} {fixed.mean():.3f}")
    looks = DailyLooks(runs, True, 0.2, rng)
    for metric, z in looks.z.items():
        found = always_valid_p(z, looks.n, scale) <= ALPHA
        last = (2 * stats.norm.sf(np.abs(z[:, -1])) <= ALPHA).mean()
        day = np.where(found.any(1), found.argmax(1) + 1, DAYS)
        print(
            f"effect of 20% on {metric}: found by always-valid {found.any(1).mean():.3f}, "
            f"in mean on day {day.mean():.1f} of {DAYS}; by one look at the end {last:.3f}"
        )


def mismatch(runs: int, rng: np.random.Generator) -> None:
    """Sample ratio: of counts, and of the product's own assignment."""
    shares = {"control": 0.5, "tuned": 0.5}
    counts = rng.binomial(10_000, 0.5, 10 * runs)
    p = np.array([sample_ratio({"control": 10_000 - int(k), "tuned": int(k)}, shares).p
                  for k in counts])  # fmt: skip
    say("sample ratio of 50/50, p ≤ 0.05", int((p <= ALPHA).sum()), len(p), ALPHA)
    say(f"sample ratio of 50/50, p < {MISMATCH_P}", int((p < MISMATCH_P).sum()), len(p), MISMATCH_P)
    ids = [f"d{i:06d}" for i in range(2000)]
    hashed = [sum(bucket(f"salt-{run}", unit) < 5000 for unit in ids) for run in range(200)]
    p = np.array([sample_ratio({"control": 2000 - k, "tuned": k}, shares).p for k in hashed])
    say("sample ratio of the hashed assignment, 200 salts, p ≤ 0.05", int((p <= ALPHA).sum()), 200,
        ALPHA)  # fmt: skip
    for n, lost in ((10_000, 0.05), (10_000, 0.1), (50_000, 0.05)):
        lossy = rng.binomial(n, (1 - lost) / (2 - lost), runs)
        found = sum(
            sample_ratio({"control": n - int(k), "tuned": int(k)}, shares).mismatch for k in lossy
        )
        print(f"one arm loses {lost:.0%} of its units, {n:,} left: found {found / runs:.3f}")


def power(runs: int, rng: np.random.Generator) -> None:
    """Finds of a planted effect against what the library foretells."""
    lift = 0.12
    tuned_rate = CLICK_RATE * lift
    sample = doctors(100_000, 0.0, rng)
    found = np.array([[e.p <= ALPHA for e in effects(doctors(UNITS, lift, rng))]
                      for _ in range(runs)])  # fmt: skip
    for column, metric in enumerate(METRICS):
        per_unit = 21.0 if metric is not RATE else 1.0
        foretold = (
            tt.RatioOfMeans(
                metric.numerator,
                metric.denominator,
                metric.numerator_covariate,
                effect_size=tuned_rate * per_unit,
                n_obs=UNITS,
                use_t=False,
            )
            .solve_power(sample, "power")[0]
            .power
        )
        share = found[:, column].mean()
        print(
            f"effect of {lift:.0%} on {metric.name}, {UNITS} doctors: found {share:.3f}, "
            f"foretold {foretold:.3f}"
        )


def rails_and_slices(runs: int, rng: np.random.Generator) -> None:
    """Guardrails at their margin, and slices without a difference."""
    rail = RATE.model_copy(update={"margin": 0.05})
    scale = mixture_scale(UNITS, ALPHA)
    at_margin, unharmed = (
        sum(
            guardrail(effects(doctors(UNITS, lift, rng), (rail,))[0], rail, scale, ALPHA).verdict
            == "held"
            for _ in range(runs)
        )
        for lift in (-0.05, 0.0)
    )
    say("guardrail said to hold at its margin of 5%", at_margin, runs, ALPHA)
    print(f"guardrail said to hold without any harm, {UNITS} doctors: {unharmed / runs:.3f}")
    blank = Effect(1.0, 1.0, 0.0, 1.0, 0.0, 1.0, UNITS)
    p = np.array([
        [
            interaction({str(i): replace(blank, difference=d) for i, d in enumerate(row)}).p
            for row in rng.standard_normal((6, 8))
        ]
        for _ in range(runs)
    ])  # fmt: skip
    say("interaction of 8 slices, 1 column", int((p[:, 0] <= ALPHA).sum()), runs, ALPHA)
    some = (benjamini_hochberg(p) <= ALPHA).any(1)
    say("any interaction of 6 columns, Benjamini–Hochberg", int(some.sum()), runs, ALPHA, True)
    real = pa.table({"slice": rng.integers(0, 4, UNITS)})
    hits = 0
    for _ in range(runs // 4):
        table = doctors(UNITS, 0.1, rng).append_column("slice", real["slice"])
        parts = {
            str(i): effects(table.filter(pa.array(np.array(real["slice"]) == i)), (RATE,))[0]
            for i in range(4)
        }
        hits += interaction(parts).p <= ALPHA
    say("interaction of 4 slices of doctors, effect of 10% everywhere", hits, runs // 4, ALPHA)


class Readers:
    """Sessions of the synthetic world: candidates and their true clicks, by two rankings."""

    SLOTS, POOL = 10, 30

    def __init__(self, truth: Truth, sessions: int, noise: float, rng: np.random.Generator) -> None:
        """``noise`` is the standard deviation of the control's error of a candidate's logit."""
        n = sessions
        user = rng.integers(0, len(truth.doctors), n)
        pool = np.argpartition(rng.random((n, len(truth.items))), self.POOL)[:, : self.POOL]
        time = np.full(n * self.POOL, truth.days / 2)
        flat = truth.click_probability(
            np.repeat(user, self.POOL), pool.ravel(), np.ones(n * self.POOL, np.int64), time
        )
        self.chance = flat.reshape(n, self.POOL)
        self.look = truth.position_bias[: self.SLOTS] / truth.position_bias[0]
        logit = np.log(self.chance / (1 - self.chance))
        error = rng.standard_normal((n, self.POOL))
        # Both rankings err; the control by more.
        self.better = np.argsort(-(logit + 0.5 * error), axis=1)[:, : self.SLOTS]
        worse = logit + 0.5 * error + noise * rng.standard_normal(error.shape)
        self.worse = np.argsort(-worse, axis=1)[:, : self.SLOTS]

    def clicks(self, page: Int64, rng: np.random.Generator) -> Float64:
        """Clicks on the pages' slots."""
        chance = np.take_along_axis(self.chance, page, 1) * self.look
        return (rng.random(page.shape) < chance).astype(np.float64)


def interleaved(runs: int, rng: np.random.Generator) -> None:
    """How much less traffic interleaving needs than an A/B test of the same two rankings."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), WorldConfig(doctors=1000, items=1500, days=1))
        truth = Truth.load(Path(folder) / "truth")
    for noise in (0.5, 1.0):
        readers = Readers(truth, 60_000, noise, rng)
        drafted = team_draft(readers.worse, readers.better, Readers.SLOTS, rng)
        credit = page_credit(drafted.credited, readers.clicks(drafted.items, rng))
        good = readers.clicks(readers.better, rng).sum(1)
        bad = readers.clicks(readers.worse, rng).sum(1)
        # Squared z a session: what the sessions needed go by.
        per_session = (credit.mean() / credit.std()) ** 2
        # Half of an A/B test's sessions go to each arm.
        ab = (good.mean() - bad.mean()) ** 2 / (2 * (good.var() + bad.var()))
        needed = [(stats.norm.isf(ALPHA / 2) + stats.norm.isf(0.2)) ** 2 / x
                  for x in (ab, per_session)]  # fmt: skip
        print(
            f"clicks a page {bad.mean():.3f} and {good.mean():.3f} "
            f"({good.mean() / bad.mean() - 1:+.1%}): sessions for 80% power, "
            f"A/B {needed[0]:.0f}, interleaving {needed[1]:.0f}, "
            f"ratio {needed[0] / needed[1]:.1f}"
        )
        size = round(needed[1])
        hits, ab_hits = 0, 0
        for _ in range(runs):
            at = rng.integers(0, len(credit), size)
            mean, error = credit[at].mean(), credit[at].std(ddof=1) / np.sqrt(size)
            hits += mean / error >= stats.norm.isf(ALPHA / 2)
            first, second = good[at[: size // 2]], bad[at[size // 2 :]]
            spread = np.sqrt(first.var() / len(first) + second.var() / len(second))
            ab_hits += (first.mean() - second.mean()) / spread >= stats.norm.isf(ALPHA / 2)
        print(
            f"  with {size} sessions: interleaving finds the better one in {hits / runs:.3f} "
            f"of runs, the A/B test in {ab_hits / runs:.3f}"
        )
    readers = Readers(truth, 500, 0.5, rng)
    wrong = 0
    for _ in range(4 * runs):
        # Each is the better one of half of the sessions, so neither is.
        first_better = rng.random((500, 1)) < 0.5
        first = np.where(first_better, readers.better, readers.worse)
        second = np.where(first_better, readers.worse, readers.better)
        drafted = team_draft(first, second, Readers.SLOTS, rng)
        credit = page_credit(drafted.credited, readers.clicks(drafted.items, rng))
        wrong += preference(credit, np.arange(500)).p <= ALPHA
    say("interleaving rankings equally good, 500 sessions", int(wrong), 4 * runs, ALPHA)


def parts(runs: int) -> Iterator[None]:
    """Runs one part after another, each from a seed of its own."""
    for number, part in enumerate(
        (one_look, peeking, mismatch, power, rails_and_slices, interleaved)
    ):
        part(runs, np.random.default_rng(number))
        yield


def main() -> None:
    """Runs all checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1000, help="experiments of each check")
    runs = parser.parse_args().runs
    print(f"{'':<66} rate    a right method   of {runs} runs")
    for _ in parts(runs):
        print(flush=True)


if __name__ == "__main__":
    main()
