"""How many trials a minute a tuning makes: python -m benchmarks.tuning_trials

Beside the plain way to write the same study: Optuna with a loop over users, each page filled by
greedy selection in NumPy. Both blend the same scores, fill the same pages (checked), measure nDCG
and diversity, and are asked by the same sampler. 500 users x 200 candidates of the data set of
$RECMESH_HOME. Scores are drawn at random: no trial's time depends on them, and nothing need be
trained. Times are of one core, so that a busy machine counts little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna

from recmesh.cli.written_data import current_dataset
from recmesh.models.registry import MODELS
from recmesh.offline.evaluation.period import period
from recmesh.offline.evaluation.temporal_split import TemporalSplit
from recmesh.offline.tuning.batch_interest_match import NO_TOPIC
from recmesh.offline.tuning.candidates import Candidates, Float64, Int64, candidates_of
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.study import DEFAULT_SAMPLER, SAMPLERS, open_study, run_trials
from recmesh.offline.tuning.trial import TrialRun
from recmesh.orchestrator.blend import ScoreMatrix, relevance, utility
from recmesh.orchestrator.objectives.objective_input import ObjectiveInput
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.slate.dpp import SAME_TOPICS
from recmesh.orchestrator.slate.interest_match import SMOOTHING
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home

METRICS = ("ndcg", "diversity")
USERS = 500
SLOTS = 10


def candidates(dataset: Dataset, policy: Policy) -> Candidates:
    """Of the first users of the validation period, with scores drawn at random."""
    split = TemporalSplit.of(dataset)
    of = period(dataset, split.validation_start, split.test_start)
    rng = np.random.default_rng(0)
    shape = (len(of.users), len(of.catalogue))
    raw = {name: rng.random(shape, np.float32) for name in MODELS}
    every = candidates_of(raw, {}, of, policy.popularity_half_life_days, campaigns=False)
    # Users are drawn again where there are too few.
    return _of_users(every, np.arange(USERS) % len(every))


def _of_users(every: Candidates, rows: Int64) -> Candidates:
    width = every.rows.shape[1]
    pairs = (rows[:, None] * width + np.arange(width)).ravel()
    matrix, topics = every.matrix, every.interest_topics
    if topics is not None:
        topics = replace(
            topics,
            interest=topics.interest[rows],
            column=topics.column[rows],
            kind=topics.kind[rows],
        )
    return replace(
        every,
        users=[every.users[row] for row in rows.tolist()],
        rows=every.rows[rows],
        matrix=ScoreMatrix(matrix.scorers, matrix.values[pairs], matrix.mask[pairs]),
        wanted=every.wanted[rows],
        n_wanted=every.n_wanted[rows],
        paid=every.paid[rows],
        topics=every.topics[rows],
        authors=every.authors[rows],
        similarity=every.similarity[rows],
        interest_topics=topics,
    )


class PlainTrials:
    """The study as one would write it down: user by user."""

    def __init__(self, run: TrialRun) -> None:
        self._run = run
        own = run.candidates
        self._has = []
        for topics in own.topics:
            has = np.zeros((len(topics), int(own.topics.max()) + 1), bool)
            row, place = np.nonzero(topics != NO_TOPIC)
            has[row, topics[row, place]] = True
            self._has.append(has)

    def _utility(self, user: int, parameters: Parameters) -> Float64:
        run, matrix = self._run, self._run.candidates.matrix
        rows = run.candidates.flat_rows.reshape(run.candidates.rows.shape)[user]
        own = slice(user * len(rows), (user + 1) * len(rows))
        part = ScoreMatrix(matrix.scorers, matrix.values[own], matrix.mask[own])
        nothing = np.zeros(len(rows), np.float32)
        seen = ObjectiveInput(
            catalog=run.candidates.catalog,
            rows=rows,
            relevance=relevance(part, parameters.model_weights),
            affinity=nothing,
            campaign_worth=nothing,
            now_unix_s=run.candidates.now_unix_s,
            half_life_days=parameters.half_lives_days,
        )
        weights = {"relevance": 1.0, **parameters.objective_weights}
        total = sum(weights.values())
        columns = [OBJECTIVES[name](seen) for name in weights]
        return utility(columns, [w / total for w in weights.values()]).astype(np.float64)

    def _page(self, user: int, parameters: Parameters, rules: SlateRules) -> list[int]:
        candidates, has = self._run.candidates, self._has[user]
        author, near = candidates.authors[user], candidates.similarity[user]
        strength, size = parameters.diversity_strength, np.maximum(has.sum(axis=1), 1)
        worth = (1 - strength) * self._utility(user, parameters)
        left = candidates.exists[user].copy()
        share = has / size[:, None]
        interest = np.zeros(has.shape[1])
        topics = candidates.interest_topics
        if topics is not None:
            # What a user does not care about has a share of 0.
            column = topics.column[user]
            at = candidates.topics[user]
            interest[at[at != NO_TOPIC]] = topics.interest[user, column[at != NO_TOPIC]]
        cares = interest > 0
        chosen: list[int] = []
        cost, unexplained = np.zeros(len(worth)), np.ones(len(worth))
        factor: list[Float64] = []
        while len(chosen) < SLOTS and left.any():
            gain = worth - strength * cost
            if parameters.calibration_weight and cares.any():
                n = len(chosen) + 1
                page = (1 - SMOOTHING) * (share[chosen].sum(axis=0) + share)[:, cares] / n
                logs = np.log(page + SMOOTHING * interest[cares])
                gain += parameters.calibration_weight * n * (logs @ interest[cares])
            over = np.zeros(len(worth), np.int8)
            if rules.max_per_topic is not None:
                full = has[chosen].sum(axis=0) >= rules.max_per_topic
                over[has[:, full].any(axis=1)] = 1
            if rules.max_per_author is not None:
                codes, times = np.unique(author[chosen], return_counts=True)
                full = codes[(times >= rules.max_per_author) & (codes != 0)]
                over[np.isin(author, full)] = 2
            over[~left] = 3
            gain[over != over.min()] = -np.inf
            best = int(gain.argmax())
            chosen.append(best)
            left[best] = False
            if rules.diversity == "mmr":
                cost = np.maximum(cost, near[best])
                continue
            row = SAME_TOPICS * near[best].astype(np.float64)
            row[best] = 1.0
            for before in factor:
                row -= before[best] * before
            row /= np.sqrt(unexplained[best])
            factor.append(row)
            unexplained = np.maximum(unexplained - row**2, 1 - SAME_TOPICS)
            cost = -np.log(unexplained)
        return chosen

    def pages(self, parameters: Parameters) -> list[list[int]]:
        """Candidates' places on every user's page."""
        rules = self._run.surface.slate
        return [self._page(user, parameters, rules) for user in range(len(self._has))]

    def values(self, parameters: Parameters) -> list[float]:
        """Mean nDCG and diversity of the pages."""
        candidates = self._run.candidates
        ndcg, diversity = [], []
        for user, page in enumerate(self.pages(parameters)):
            discounts = 1 / np.log2(np.arange(SLOTS) + 2)
            hits = candidates.wanted[user, page]
            best = discounts[: min(int(candidates.n_wanted[user]), SLOTS)].sum()
            ndcg.append(float(discounts[: len(page)] @ hits / best))
            pairs = np.triu_indices(len(page), 1)
            near = candidates.similarity[user][np.ix_(page, page)][pairs]
            diversity.append(float((1 - near).mean()) if len(near) else 0.0)
        return [float(np.mean(ndcg)), float(np.mean(diversity))]


def agree(run: TrialRun, plain: PlainTrials, points: list[Parameters]) -> float:
    """Share of the pages that both fill alike."""
    same = []
    for point in points:
        ours = run.pages(point).chosen
        pairs = zip(ours, plain.pages(point), strict=True)
        same += [page[page >= 0].tolist() == other for page, other in pairs]
    return float(np.mean(same))


def timed_s(work: Callable[[], object]) -> float:
    """Seconds that this process kept a core busy."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def studied_s(run: TrialRun, trials: int) -> float:
    """Of our study."""
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(Path(folder) / "journal", "ours", run.metrics, DEFAULT_SAMPLER, 0)
        return timed_s(lambda: run_trials(study, run, trials))


def plainly_studied_s(run: TrialRun, plain: PlainTrials, trials: int) -> float:
    """Of the plain one, by the same sampler, in memory."""
    sampler = SAMPLERS[DEFAULT_SAMPLER](0)
    study = optuna.create_study(sampler=sampler, directions=["maximize"] * 2)
    return timed_s(
        lambda: study.optimize(
            lambda trial: plain.values(run.space.suggested(trial)), n_trials=trials
        )
    )


def main() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200, help="of our study")
    parser.add_argument("--plain-trials", type=int, default=10)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    policy = Policy.load()
    feed = policy.surfaces["feed"]
    run = TrialRun(candidates(current_dataset(Home.from_environment()), policy), feed, METRICS)
    plain = PlainTrials(run)
    rng = optuna.samplers.RandomSampler(seed=0)
    drawing = optuna.create_study(sampler=rng, directions=["maximize"] * 2)
    points = [run.space.suggested(drawing.ask()) for _ in range(arguments.plain_trials)]
    points.append(Parameters.of(feed, run.candidates.scorers))
    run(points[0])  # what all trials share is worked out

    users, width = run.candidates.rows.shape
    print(f"{users} users x {width} candidates, {SLOTS} slots, {feed.slate.diversity}, one core")
    print(f"pages filled alike: {agree(run, plain, points):.2%} of {len(points) * users:,}")
    ours_ms = 1e3 * float(np.median([timed_s(lambda p=p: run(p)) for p in points * 3]))
    plain_ms = 1e3 * float(np.median([timed_s(lambda p=p: plain.values(p)) for p in points]))
    ours = 60 * arguments.trials / studied_s(run, arguments.trials)
    theirs = 60 * arguments.plain_trials / plainly_studied_s(run, plain, arguments.plain_trials)
    print(f"{'':28}{'ms/trial':>10}{'trials/min with ' + DEFAULT_SAMPLER:>24}")
    print(f"{'all users at once':28}{ours_ms:10.1f}{ours:24.0f}")
    print(f"{'user by user, plain NumPy':28}{plain_ms:10.1f}{theirs:24.0f}")
    print(f"{'times':28}{plain_ms / ours_ms:10.1f}{ours / theirs:24.1f}")


if __name__ == "__main__":
    main()
