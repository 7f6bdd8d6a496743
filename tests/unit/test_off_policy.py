from __future__ import annotations

import subprocess
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recmesh.offline.off_policy.estimators import doubly_robust, self_normalised, weighted
from recmesh.offline.off_policy.evaluate import ActionEvaluation, slate_estimates
from recmesh.offline.off_policy.importance_weights import (
    action_weights,
    cascade_weights,
    item_position_weights,
    slate_weights,
)
from recmesh.offline.off_policy.interval import interval
from recmesh.offline.off_policy.logged_actions import LoggedActions
from recmesh.offline.off_policy.logged_slates import LoggedSlates, SlateProbabilities
from recmesh.offline.off_policy.reward_model import (
    LogisticRewards,
    Predictor,
    ShrunkMeans,
    cross_fitted,
)
from recmesh.offline.off_policy.support import support, unsupported_mass
from recmesh.offline.off_policy.switch import switch_estimate
from recmesh.storage.errors import DataError


def log_of(action: Any, reward: Any, propensity: Any, **columns: Any) -> LoggedActions:
    n = len(action)
    return LoggedActions(
        action=np.asarray(action, np.int64),
        reward=np.asarray(reward, np.float64),
        propensity=np.asarray(propensity, np.float64),
        position=np.asarray(columns.get("position", np.ones(n)), np.int64),
        unit=np.asarray(columns.get("unit", np.arange(n)), np.int64),
    )


def simulated(n: int, seed: int, near: float = 0.5) -> tuple[LoggedActions, np.ndarray, float]:
    """Two contexts, three actions: a log, the new policy's probabilities, its true value."""
    rng = np.random.default_rng(seed)
    chance = np.array([[0.1, 0.3, 0.6], [0.5, 0.2, 0.1]])
    logging = np.exp(near * chance) / np.exp(near * chance).sum(1, keepdims=True)
    new = np.exp(3 * chance) / np.exp(3 * chance).sum(1, keepdims=True)
    context = rng.integers(0, 2, n)
    drawn = (rng.random(n)[:, None] > np.cumsum(logging[context], 1)).sum(1).clip(0, 2)
    reward = rng.random(n) < chance[context, drawn]
    log = log_of(drawn, reward, logging[context, drawn])
    return log, new[context], float((new * chance).sum(1).mean())


def test_estimators_by_hand() -> None:
    log = log_of([0, 1, 1, 0], [1, 0, 1, 0], [0.5, 0.5, 0.25, 0.8])
    new = np.array([[0.25, 0.75], [0.5, 0.5], [0.5, 0.5], [0.4, 0.6]])
    weight = action_weights(log, new)
    assert weight[:, 0] == pytest.approx([0.5, 1.0, 2.0, 0.5])
    reward = log.reward[:, None]
    assert weighted(reward, weight).tolist() == pytest.approx([0.5, 0.0, 2.0, 0.0])
    assert self_normalised(reward, weight).mean() == pytest.approx(2.5 / 4)
    predicted = np.array([[0.2, 0.4]] * 4)
    robust = doubly_robust(log, new, predicted, weight[:, 0])
    # Each row: the model over all actions, and the weight times what it missed.
    model = [0.35, 0.3, 0.3, 0.32]
    missed = [0.5 * 0.8, 1.0 * -0.4, 2.0 * 0.6, 0.5 * -0.2]
    assert robust == pytest.approx(np.add(model, missed))
    switched = doubly_robust(log, new, predicted, weight[:, 0], 1.0)
    assert switched == pytest.approx(np.add(model, [0.4, -0.4, 0.0, -0.1]))


distributions = st.lists(st.floats(0.05, 1), min_size=3, max_size=3).map(
    lambda w: np.array(w) / sum(w)
)


@given(
    logging=distributions,
    new=distributions,
    chance=st.lists(st.floats(0, 1), min_size=3, max_size=3).map(np.array),
    predicted=st.lists(st.floats(0, 1), min_size=3, max_size=3).map(np.array),
)
def test_single_decisions_are_right_in_expectation(
    logging: np.ndarray, new: np.ndarray, chance: np.ndarray, predicted: np.ndarray
) -> None:
    """Over all that may be logged: action and click, each with its probability."""
    action, click = (np.array(x) for x in zip(*product(range(3), (0, 1)), strict=True))
    probability = logging[action] * np.where(click, chance[action], 1 - chance[action])
    log = log_of(action, click, logging[action])
    rows = np.tile(new, (6, 1))
    weight = action_weights(log, rows)
    truth = pytest.approx(float(new @ chance))
    assert probability @ weighted(log.reward[:, None], weight) == truth
    model = np.tile(predicted, (6, 1))
    assert probability @ doubly_robust(log, rows, model, weight[:, 0]) == truth
    # Beyond the threshold the model's error stays.
    threshold = float(np.median(new / logging))
    beyond = new / logging > threshold
    bias = float((new * (predicted - chance))[beyond].sum())
    found = probability @ doubly_robust(log, rows, model, weight[:, 0], threshold)
    assert found == pytest.approx(float(new @ chance) + bias)


class TinySlates:
    """Four items, two slots, and every slate with every pattern of clicks."""

    def __init__(self, logging: np.ndarray, new: np.ndarray) -> None:
        slates = list(permutations(range(4), 2))
        rows = [(s, c) for s in slates for c in product((0, 1), repeat=2)]
        self.slate = np.array([s for s, _ in rows])
        self.click = np.array([c for _, c in rows], np.float64)
        self.of = [self._probabilities(w) for w in (logging, new)]

    def _probabilities(self, worth: np.ndarray) -> SlateProbabilities:
        first = worth[self.slate[:, 0]]
        second = worth[self.slate[:, 1]] / (1 - first)
        pairs = np.array([[a * b / (1 - a) for b in worth] for a in worth])
        np.fill_diagonal(pairs, 0.0)
        in_second = pairs.sum(axis=0)[self.slate[:, 1]]
        return SlateProbabilities(np.stack([first, second], 1), np.stack([first, in_second], 1))

    def expected(self, chance: np.ndarray) -> tuple[float, dict[str, float]]:
        """True value and estimators' means; ``chance`` of each slot's click ``[rows, 2]``."""
        logging, new = self.of
        click = np.prod(np.where(self.click == 1, chance, 1 - chance), axis=1)
        logged = logging.given_above.prod(axis=1) * click
        wanted = new.given_above.prod(axis=1) * click
        weights = {
            "slate": slate_weights(logging.given_above, new.given_above),
            "cascade": cascade_weights(logging.given_above, new.given_above),
            "own": item_position_weights(logging.in_slot, new.in_slot),
        }
        means = {
            name: float(logged @ weighted(self.click, weight)) for name, weight in weights.items()
        }
        return float(wanted @ self.click.sum(axis=1)), means


LOGGING, NEW = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, 0.3, 0.15, 0.05])


def test_slates_are_right_in_expectation_where_their_assumption_holds() -> None:
    tiny = TinySlates(LOGGING, NEW)
    appeal, look = np.array([0.9, 0.2, 0.5, 0.4]), np.array([1.0, 0.6])
    alone = appeal[tiny.slate] * look
    value, means = tiny.expected(alone)
    assert means == pytest.approx(dict.fromkeys(means, value))
    # The second slot is looked at less below a good first.
    cascade = alone * np.stack([np.ones(len(alone)), 1 - appeal[tiny.slate[:, 0]]], 1)
    value, means = tiny.expected(cascade)
    assert means["slate"] == pytest.approx(value)
    assert means["cascade"] == pytest.approx(value)
    assert abs(means["own"] - value) > 0.01
    # The first slot loses to one item below it.
    rival = alone * np.stack([np.where(tiny.slate[:, 1] == 0, 0.1, 1.0), np.ones(len(alone))], 1)
    value, means = tiny.expected(rival)
    assert means["slate"] == pytest.approx(value)
    assert abs(means["cascade"] - value) > 0.01


@given(st.lists(st.floats(0, 50), min_size=2, max_size=20), st.integers(0, 100))
def test_self_normalised_values_stay_among_the_rewards(weights: list[float], seed: int) -> None:
    weight = np.array(weights)[:, None]
    reward = np.random.default_rng(seed).random(weight.shape)
    value = self_normalised(reward, weight).mean()
    assert -1e-9 <= value <= reward.max() + 1e-9
    assert self_normalised(np.ones_like(reward), weight + 1).mean() == pytest.approx(1.0)


def test_intervals_without_skewness_are_students() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = interval(values, np.arange(5))
    low, high = stats.t.interval(0.95, 4, loc=3.0, scale=values.std(ddof=1) / np.sqrt(5))
    assert (found.low, found.high) == pytest.approx((low, high))
    skewed = interval(np.array([0.0, 0.0, 0.0, 0.0, 10.0] * 20), np.arange(100))
    assert skewed.high - skewed.value > skewed.value - skewed.low


def test_rows_of_one_unit_count_once() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(1.0, 300)
    once = interval(values, np.arange(300))
    thrice = interval(np.repeat(values, 3), np.repeat(np.arange(300), 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    naive = interval(np.repeat(values, 3), np.arange(900))
    assert naive.standard_error < 0.6 * once.standard_error
    with pytest.raises(DataError, match="1 units"):
        interval(values, np.zeros(300, np.int64))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held: dict[str, list[bool]] = {}
    for seed in range(120):
        log, new, truth = simulated(600, seed)
        for estimate in ActionEvaluation(ShrunkMeans(3)).estimates(log, new):
            assert estimate.usable
            held.setdefault(estimate.estimator, []).append(estimate.interval.holds(truth))
    assert set(held) == {"IPS", "SNIPS", "DR", "Switch-DR"}
    low, high = stats.binom.interval(0.999, 120, 0.95)
    assert {name: low <= sum(h) <= high for name, h in held.items()} == dict.fromkeys(held, True)


def test_a_threshold_cuts_what_costs_less_than_it_saves() -> None:
    """One row in a thousand has a weight of 50 and the model is right."""
    rng = np.random.default_rng(0)
    n = 4000
    rare = rng.random(n) < 0.001
    action = rare.astype(np.int64)
    propensity = np.where(rare, 0.001, 0.999)
    new = np.tile([0.95, 0.05], (n, 1))
    log = log_of(action, rng.random(n) < 0.5, propensity)
    weight = action_weights(log, new)[:, 0]
    right = np.full((n, 2), 0.5)
    cut = switch_estimate(log, new, right, weight, largest_reward=0.05)
    assert cut.threshold < 50
    assert cut.bias_bound == pytest.approx(0.05 * weight[weight > cut.threshold].sum() / n)
    kept = switch_estimate(log, new, right, weight, largest_reward=1.0)
    assert (kept.threshold, kept.bias_bound) == (np.inf, 0.0)
    plain = interval(doubly_robust(log, new, right, weight, cut.threshold), log.unit)
    assert cut.interval.low == pytest.approx(plain.low - cut.bias_bound)


def test_support_by_hand() -> None:
    weight = np.array([[1.0], [1.0], [2.0], [0.0]])
    reward = np.array([[1.0], [0.0], [1.0], [1.0]])
    found = support(weight, reward)
    assert found.effective_rows == pytest.approx(16 / 6)
    assert found.effective_rewards == pytest.approx(9 / 5)
    assert found.largest_weight_share == 0.5
    assert found.mean_weight == 1.0
    with pytest.raises(DataError, match="3 effective rows of 4, at least 100"):
        found.require()


def test_thin_support_is_refused_and_good_support_is_not() -> None:
    log, new, _ = simulated(2000, 0)
    reward = log.reward[:, None]
    fine = support(action_weights(log, new), reward)
    fine.require()
    assert fine.warnings == ()
    few = support(action_weights(log, new), reward * (np.arange(2000) < 40)[:, None])
    assert "effective rewards, at least 20" in few.refusals[0]
    one = np.ones((2000, 1))
    one[0] = 60.0
    refusals = support(one, reward).refusals
    assert any("one row has 2.9% of the weight, at most 2%" in line for line in refusals)
    wrong = support(action_weights(log, new) * 1.3, reward)
    assert "propensities may be wrong" in wrong.warnings[0]


def test_what_was_never_logged_is_known_with_and_without_the_logging_policy() -> None:
    rng = np.random.default_rng(0)
    logging = np.tile([0.6, 0.4, 0.0], (3000, 1))
    new = np.tile([0.5, 0.3, 0.2], (3000, 1))
    action = (rng.random(3000) < 0.4).astype(np.int64)
    log = log_of(action, rng.random(3000) < 0.3, logging[0, action])
    assert unsupported_mass(logging, new) == pytest.approx(0.2)
    evaluation = ActionEvaluation(ShrunkMeans(3))
    exact, inferred = (
        evaluation.estimates(log, new, known)[0].support for known in (logging, None)
    )
    assert "20.0% of the new policy's choices" in exact.refusals[0]
    assert inferred.unsupported_mass == pytest.approx(0.2, abs=0.03)
    assert inferred.refusals


def test_models_never_see_the_unit_that_they_predict_for() -> None:
    unit = np.repeat(np.arange(20), 3)
    log = log_of(np.zeros(60), np.zeros(60), np.ones(60), unit=unit)
    seen: list[set[int]] = []

    class Recorder:
        def fit(self, log: LoggedActions, rows: np.ndarray) -> Predictor:
            known = set(log.unit[rows].tolist())

            def predict(wanted: np.ndarray) -> np.ndarray:
                assert not known & set(log.unit[wanted].tolist())
                seen.append(set(log.unit[wanted].tolist()))
                return np.zeros((len(wanted), 1))

            return predict

    cross_fitted(log, Recorder(), folds=4)
    assert sorted(u for units in seen for u in units) == list(range(20))
    with pytest.raises(DataError, match="20 units are too few for 21 folds"):
        cross_fitted(log, Recorder(), folds=21)


def test_reward_models_learn_what_there_is() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    action, position = rng.integers(0, 4, n), rng.integers(1, 3, n)
    chance = np.array([0.05, 0.1, 0.2, 0.3])[:, None] * np.array([1.0, 0.5])
    reward = rng.random(n) < chance[action, position - 1]
    log = log_of(action, reward, np.full(n, 0.25), position=position)
    everything = np.arange(n)
    means = ShrunkMeans(4).fit(log, everything)(everything)
    assert np.abs(means - chance[:, position - 1].T).max() < 0.02
    features = np.broadcast_to(np.eye(4), (n, 4, 4))
    logistic = LogisticRewards(features).fit(log, everything)(everything)
    assert np.abs(logistic - chance[:, position - 1].T).max() < 0.03
    unseen = ShrunkMeans(5).fit(log, everything)(everything[:1])[0, 4]
    assert unseen == pytest.approx(reward[position == position[0]].mean())


def test_logs_come_from_tables() -> None:
    table = pa.table(
        {
            "action": ["b", "a"],
            "reward": [1, 0],
            "propensity": [0.5, 0.25],
            "position": [2, 1],
            "unit": ["d2", "d1"],
        }
    )
    log = LoggedActions.from_table(table, pa.array(["a", "b"]))
    assert (log.action.tolist(), log.position.tolist(), log.unit.tolist()) == (
        [1, 0],
        [2, 1],
        [1, 0],
    )
    bare = LoggedActions.from_table(table.drop_columns(["position", "unit"]), pa.array(["a", "b"]))
    assert (bare.position.tolist(), bare.unit.tolist()) == ([1, 1], [0, 1])
    with pytest.raises(DataError, match="action b is not one of the 1 actions"):
        LoggedActions.from_table(table, pa.array(["a"]))
    with pytest.raises(DataError, match="no column propensity"):
        LoggedActions.from_table(table.drop_columns("propensity"), pa.array(["a", "b"]))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"propensity": [0.5, 0.0]}, "propensity of row 1 is 0"),
        ({"propensity": [1.5, 0.5]}, "propensity of row 0 is 1.5"),
        ({"reward": [0.0, np.inf]}, "reward of row 1 is inf"),
        ({"position": [0, 1]}, "position of row 0 is 0"),
        ({"reward": [0.0]}, "reward has 1 rows, action has 2"),
    ],
)
def test_logs_that_cannot_be_are_refused(broken: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {"reward": [0, 1], "propensity": [0.5, 0.5]} | broken
    with pytest.raises(DataError, match=message):
        log_of([0, 1], **columns)


def test_policies_that_cannot_be_are_refused() -> None:
    log, new, _ = simulated(100, 0)
    evaluation = ActionEvaluation(ShrunkMeans(3))
    with pytest.raises(DataError, match=r"new adds up to 1\.1 in row 0"):
        evaluation.estimates(log, new * 1.1)
    with pytest.raises(DataError, match="100 rows of actions are needed"):
        evaluation.estimates(log, new[1:])
    with pytest.raises(DataError, match="in the log and"):
        evaluation.estimates(log, new, new)


def test_slates_are_estimated_by_four() -> None:
    tiny = TinySlates(LOGGING, np.array([0.2, 0.25, 0.25, 0.3]))
    rng = np.random.default_rng(0)
    appeal = np.array([0.9, 0.2, 0.5, 0.4])[tiny.slate] * np.array([1.0, 0.6])
    truth, _ = tiny.expected(appeal)
    logging, new = tiny.of
    click = np.prod(np.where(tiny.click == 1, appeal, 1 - appeal), axis=1)
    at = rng.choice(len(click), 4000, p=logging.given_above.prod(axis=1) * click)
    log = LoggedSlates(
        tiny.click[at],
        *(SlateProbabilities(p.given_above[at], p.in_slot[at]) for p in (logging, new)),
        np.arange(4000),
    )
    found = slate_estimates(log)
    assert [e.estimator for e in found] == ["slate IPS", "RIPS", "IIPS", "SNIIPS"]
    assert all(e.usable and e.interval.holds(truth) for e in found)
    assert found[2].support.effective_rows > found[0].support.effective_rows
    with pytest.raises(DataError, match=r"logging\.in_slot is 0 for an item that was logged"):
        LoggedSlates(
            log.reward,
            SlateProbabilities(log.logging.given_above, np.zeros_like(log.reward)),
            log.new,
            log.unit,
        )


def test_the_open_bandit_check_says_what_is_absent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.off_policy_open_bandit", str(tmp_path / "no")]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert found.returncode == 1
    assert "is absent: nothing to check" in found.stderr
