"""Off-policy estimates against the truth of the synthetic world.

python -m benchmarks.off_policy_coverage [--replications 200]

Readers of the world are shown items of a pool by a Plackett–Luce policy with exact propensities,
and click as the world's truth says. A new policy's true value is summed over all that it may show.
Half a minute of a core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from recmesh.offline.off_policy.estimators import self_normalised, weighted
from recmesh.offline.off_policy.evaluate import ActionEvaluation, Estimate, slate_estimates
from recmesh.offline.off_policy.importance_weights import action_weights
from recmesh.offline.off_policy.interval import interval
from recmesh.offline.off_policy.logged_actions import LoggedActions
from recmesh.offline.off_policy.logged_slates import LoggedSlates, SlateProbabilities
from recmesh.offline.off_policy.reward_model import LogisticRewards
from recmesh.offline.off_policy.support import support
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.truth import Truth

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

READERS = 500
POOL = 8
SLOTS = 3
LARGEST_CLICK_PROBABILITY = 0.8
"""Readers' true ones are below it; Switch-DR is told."""


class Readers:
    """Readers, a pool of items for each, and the truth of their clicks."""

    def __init__(self, truth: Truth, rng: np.random.Generator) -> None:
        shape = (READERS, POOL)
        self.pool = rng.integers(0, len(truth.items), shape)
        user = np.arange(READERS)[:, None]
        self.click: Float64 = truth.click_probability(
            np.broadcast_to(user, shape).ravel(),
            self.pool.ravel(),
            np.ones(READERS * POOL, np.int64),
            np.full(READERS * POOL, truth.days / 2),
        ).reshape(shape)
        """In the first slot ``[readers, pool]``."""
        self.look = (truth.position_bias / truth.position_bias[0])[:SLOTS].astype(np.float64)
        affinity = np.einsum("rd,rpd->rp", truth.doctors[:READERS], truth.items[self.pool])
        # A model that knows neither colleagues nor popularity nor age.
        self.features = np.stack([affinity, truth.quality[self.pool]], axis=-1).astype(np.float64)
        logit = np.log(self.click / (1 - self.click))
        self.logging_utility = logit + rng.standard_normal(shape)
        self.new_utility = logit + rng.standard_normal(shape)


@dataclass(frozen=True)
class PlackettLuce:
    """Slates drawn item by item in proportion to the exponential of utility ``[readers, pool]``."""

    utility: Float64

    @cached_property
    def first(self) -> Float64:
        """Probability of each item to be drawn first ``[readers, pool]``."""
        exponential = np.exp(self.utility - self.utility.max(axis=1, keepdims=True))
        return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))

    def given_above(self, reader: Int64, slate: Int64) -> Float64:
        """Probability of each slot's item given those above it ``[n, slots]``."""
        chance = np.take_along_axis(self.first[reader], slate, axis=1)
        left = 1.0 - np.cumsum(chance, axis=1) + chance
        return np.asarray(chance / left)

    @cached_property
    def in_slot(self) -> Float64:
        """Probability of each item in each slot ``[readers, pool, slots]``: over all slates."""
        slates = np.array(list(permutations(range(POOL), SLOTS)))
        chance = self.first[:, slates]
        left = 1.0 - np.cumsum(chance, axis=2) + chance
        whole = np.prod(chance / left, axis=2)
        found = np.zeros((READERS, POOL, SLOTS))
        for slot in range(SLOTS):
            shown = np.eye(POOL)[slates[:, slot]]
            found[:, :, slot] = whole @ shown
        return found

    def slates(self, reader: Int64, rng: np.random.Generator) -> Int64:
        """Slates ``[n, slots]``: the largest of utility plus Gumbel noise."""
        noisy = self.utility[reader] + rng.gumbel(size=(len(reader), POOL))
        return np.argsort(-noisy, axis=1)[:, :SLOTS]


class Score:
    """Estimates of many logs against the truth."""

    def __init__(self, truth: float) -> None:
        self.truth = truth
        self.rows: dict[str, list[Estimate]] = defaultdict(list)

    def add(self, estimates: list[Estimate]) -> None:
        """Takes the estimates of one log."""
        for estimate in estimates:
            self.rows[estimate.estimator].append(estimate)

    def print(self) -> None:
        """One line an estimator; error and width are relative to the truth."""
        print(
            f"{'estimator':<11}{'bias':>8}{'RMSE':>8}{'coverage':>10}{'width':>8}"
            f"{'rows':>9}{'rewards':>9}{'refused':>9}"
        )
        for name, estimates in self.rows.items():
            error = np.array([e.interval.value for e in estimates]) / self.truth - 1
            held = np.mean([e.interval.holds(self.truth) for e in estimates])
            width = np.mean([e.interval.high - e.interval.low for e in estimates]) / self.truth
            rows = np.mean([e.support.effective_rows for e in estimates])
            rewards = np.mean([e.support.effective_rewards for e in estimates])
            refused = np.mean([not e.usable for e in estimates])
            rmse = np.sqrt(np.square(error).mean())
            print(
                f"{name:<11}{error.mean():>+8.1%}{rmse:>8.1%}{held:>10.3f}{width:>8.1%}"
                f"{rows:>9.0f}{rewards:>9.0f}{refused:>9.1%}"
            )


def single_slots(readers: Readers, replications: int, rng: np.random.Generator) -> None:
    """One decision a row, in a slot drawn at random."""
    for near, far, n in ((0.3, 0.6, 4000), (0.3, 1.0, 4000), (-0.3, 1.0, 4000)):
        logging = PlackettLuce(near * readers.logging_utility).first
        new = PlackettLuce(far * readers.new_utility).first
        value = float((new * readers.click).sum(1).mean() * readers.look.mean())
        old = float((logging * readers.click).sum(1).mean() * readers.look.mean())
        score = Score(value)
        for _ in range(replications):
            reader = rng.integers(0, READERS, n)
            log = decisions(readers, logging, reader, rng)
            evaluation = ActionEvaluation(
                LogisticRewards(readers.features[reader]), LARGEST_CLICK_PROBABILITY
            )
            score.add(evaluation.estimates(log, new[reader], logging[reader]))
        print(f"single slots, {n} rows: value {value:.4f}, of the logging policy {old:.4f}")
        score.print()
        print()


def decisions(
    readers: Readers, logging: Float64, reader: Int64, rng: np.random.Generator
) -> LoggedActions:
    """What the logging policy does for readers, and whether they click."""
    n = len(reader)
    position = rng.integers(1, SLOTS + 1, n)
    drawn = rng.random(n)[:, None] > np.cumsum(logging[reader], axis=1)
    action = np.minimum(drawn.sum(axis=1), POOL - 1)
    chance = readers.click[reader, action] * readers.look[position - 1]
    return LoggedActions(
        action=action,
        reward=(rng.random(n) < chance).astype(np.float64),
        propensity=logging[reader, action],
        position=position,
        unit=np.arange(n),
    )


def slates(readers: Readers, replications: int, rng: np.random.Generator) -> None:
    """Whole slates; twice each reader, so that rows depend on each other."""
    for near, far, n in ((0.3, 0.6, 4000), (0.3, 1.0, 4000), (-0.3, 1.0, 4000)):
        logging = PlackettLuce(near * readers.logging_utility)
        new = PlackettLuce(far * readers.new_utility)
        value, old = (
            float(np.einsum("rps,rp,s->", p.in_slot, readers.click, readers.look)) / READERS
            for p in (new, logging)
        )
        score = Score(value)
        for _ in range(replications):
            unit = np.repeat(np.arange(n // 2), 2)
            reader = rng.integers(0, READERS, n // 2)[unit]
            slate = logging.slates(reader, rng)
            chance = np.take_along_axis(readers.click[reader], slate, axis=1) * readers.look
            probabilities = [
                SlateProbabilities(
                    p.given_above(reader, slate),
                    np.take_along_axis(p.in_slot[reader], slate[:, None, :], axis=1)[:, 0],
                )
                for p in (logging, new)
            ]
            clicks = (rng.random(slate.shape) < chance).astype(np.float64)
            score.add(slate_estimates(LoggedSlates(clicks, *probabilities, unit)))
        print(f"slates of {SLOTS}, {n} rows: value {value:.4f}, of the logging policy {old:.4f}")
        score.print()
        print()


def thin_logs(readers: Readers, replications: int, rng: np.random.Generator) -> None:
    """Whether the rule that refuses logs parts those whose intervals hold from the others."""
    held: dict[bool, list[tuple[bool, bool]]] = {True: [], False: []}
    relative: dict[bool, list[float]] = {True: [], False: []}
    for near, far in ((0.3, 1.0), (-0.3, 0.7), (-0.3, 1.0), (-0.6, 1.0), (0.5, 3.0), (-1.0, 1.5)):
        logging = PlackettLuce(near * readers.logging_utility).first
        new = PlackettLuce(far * readers.new_utility).first
        value = float((new * readers.click).sum(1).mean() * readers.look.mean())
        for n in (200, 500, 1000, 3000, 10_000, 30_000):
            for _ in range(replications):
                reader = rng.integers(0, READERS, n)
                log = decisions(readers, logging, reader, rng)
                weight, reward = action_weights(log, new[reader]), log.reward[:, None]
                usable = not support(weight, reward).refusals
                plain = interval(weighted(reward, weight), log.unit)
                normal = interval(self_normalised(reward, weight), log.unit)
                held[usable].append((plain.holds(value), normal.holds(value)))
                relative[usable].append(plain.value / value - 1)
    for usable, pairs in held.items():
        ips, snips = np.mean(pairs, axis=0)
        error = np.sqrt(np.square(relative[usable]).mean())
        print(
            f"{'used' if usable else 'refused'}: {len(pairs)} logs, coverage of IPS {ips:.3f}, "
            f"of SNIPS {snips:.3f}, relative RMSE of IPS {error:.0%}"
        )


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replications", type=int, default=200, help="logs of each table")
    replications = parser.parse_args().replications
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), WorldConfig(doctors=READERS, items=1500, days=1))
        truth = Truth.load(Path(folder) / "truth")
    readers = Readers(truth, np.random.default_rng(0))
    low, high = stats.binom.interval(0.99, replications, 0.95)
    print(
        f"{replications} logs each; 95% intervals that are right cover in "
        f"{low / replications:.3f} to {high / replications:.3f} of them (99% of the time)\n"
    )
    single_slots(readers, replications, np.random.default_rng(1))
    slates(readers, replications, np.random.default_rng(2))
    thin_logs(readers, replications // 4, np.random.default_rng(3))


if __name__ == "__main__":
    main()
