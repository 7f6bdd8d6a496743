"""What blend and slate cost, next to plain Python, and how far slates are from the best.

python -m benchmarks.slate_and_blend [REPEATS]

One core. Every instance is new; all ways see the same ones, in turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from recmesh.offline.evaluation.exact_slate import SlateProblem, best_slate
from recmesh.orchestrator.blend import Float32, relevance, score_matrix, utility
from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.certified import Certified, certified
from recmesh.orchestrator.slate.dpp import SAME_TOPICS
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import select

STRENGTH = 0.2
ALL_RULES = SlateRules(
    diversity_strength=STRENGTH,
    calibration_weight=0.1,
    max_per_topic=3,
    max_per_author=2,
    max_per_sponsor=2,
    max_per_topic_recently=5,
    max_per_author_recently=3,
    max_per_sponsor_recently=3,
    sponsored_share=0.2,
    sponsored_spacing=3,
    exploration_slots=(10, 20),
)


def with_rules(diversity: str) -> SlateRules:
    """All rules on."""
    return ALL_RULES.model_copy(update={"diversity": diversity})


def without_rules(diversity: str) -> SlateRules:
    """Diversity alone."""
    return SlateRules(diversity=diversity, diversity_strength=STRENGTH)


def without_interests(diversity: str) -> SlateRules:
    """All rules but the match with interests and the reserved slots."""
    left_out = {"diversity": diversity, "calibration_weight": 0.0, "exploration_slots": ()}
    return ALL_RULES.model_copy(update=left_out)


def instance(rng: np.random.Generator, n: int, n_topics: int) -> SlateCandidates:
    """Candidates with one to three topics of ``n_topics``, and every column there is."""
    topics = np.zeros(n, np.uint64)
    for has_it in (np.ones(n, bool), rng.random(n) < 0.5, rng.random(n) < 0.3):
        bit = np.uint64(1) << rng.integers(0, n_topics, n).astype(np.uint64)
        topics |= np.where(has_it, bit, np.uint64(0))
    sponsored = rng.random(n) < 0.1
    pin_slot = np.zeros(n, np.int32)
    pin_slot[np.flatnonzero(~sponsored)[0]] = 3
    interests = np.zeros(64, np.float32)
    interests[:n_topics] = rng.dirichlet(np.full(n_topics, 0.2))
    return SlateCandidates(
        utility=np.sort(rng.beta(2, 5, n))[::-1].astype(np.float32),
        topics=topics[:, None],
        boost=(0.05 * rng.random(n) * (rng.random(n) < 0.05)).astype(np.float32),
        blocked=rng.random(n) < 0.03,
        pin_slot=pin_slot,
        author=rng.integers(0, n // 3, n),
        sponsored=sponsored,
        sponsor=np.where(sponsored, rng.integers(1, 6, n), 0),
        explores=rng.random(n) < 0.2,
        interests=interests,
        topic_shown=rng.integers(0, 3, 64).astype(np.int32),
        author_shown=np.zeros(n, np.int32),
        sponsor_shown=np.zeros(n, np.int32),
    )


def plain_slate(candidates: SlateCandidates, diversity: str, slots: int) -> list[int]:
    """Greedy MMR or DPP without rules as one would write it down: every candidate, every slot."""
    words = candidates.topics[:, 0].tolist()
    worth = [(1 - STRENGTH) * u for u in candidates.utility.tolist()]

    def similarity(i: int, j: int) -> float:
        either = (words[i] | words[j]).bit_count()
        return (words[i] & words[j]).bit_count() / either if either else 0.0

    def log_det(items: Sequence[int]) -> float:
        kernel = np.array([[SAME_TOPICS * similarity(i, j) for j in items] for i in items])
        np.fill_diagonal(kernel, 1.0)
        return float(np.linalg.slogdet(kernel)[1])

    chosen: list[int] = []
    while len(chosen) < slots:

        def gain(i: int) -> float:
            if diversity == "dpp":
                return worth[i] + STRENGTH * log_det([*chosen, i])
            return worth[i] - STRENGTH * max((similarity(i, j) for j in chosen), default=0.0)

        chosen.append(max((i for i in range(len(words)) if i not in chosen), key=gain))
    return chosen


def plain_blend(columns: Sequence[Float32], weights: Sequence[float]) -> list[float]:
    """The weighted sum, candidate by candidate."""
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [sum(w * value for w, value in zip(weights, row, strict=True)) for row in rows]


def timed_ms(work: Callable[..., object], *arguments: object) -> float:
    """Milliseconds that one call keeps its core busy, whatever else runs on the machine."""
    started = time.thread_time()
    work(*arguments)
    return (time.thread_time() - started) * 1e3


def line(name: str, times_ms: Sequence[float]) -> None:
    """p50 and p99."""
    p50, p99 = np.percentile(times_ms, [50, 99])
    print(f"{name:54}{p50:10.3f}{p99:10.3f}", flush=True)


def relevance_of(scores: dict[str, Float32], weights: dict[str, float]) -> Float32:
    """Of models' calibrated scores."""
    return relevance(score_matrix(scores, 1000), weights)


def time_blend(rng: np.random.Generator, repeats: int) -> None:
    """1,000 candidates, 8 objectives; and 8 models' scores to relevance."""
    weights = (np.ones(8) / 8).tolist()
    names = [f"m{i}" for i in range(8)]
    times: dict[str, list[float]] = {"blend": [], "plain": [], "models": []}
    for _ in range(repeats):
        columns = [rng.random(1000).astype(np.float32) for _ in names]
        scores = dict(zip(names, columns, strict=True))
        of_model = dict(zip(names, weights, strict=True))

        times["blend"].append(timed_ms(utility, columns, weights))
        times["plain"].append(timed_ms(plain_blend, columns, weights))
        times["models"].append(timed_ms(relevance_of, scores, of_model))
    line("blend, 1,000 candidates, 8 objectives", times["blend"])
    line("  the same in plain Python", times["plain"])
    line("relevance of 1,000 candidates from 8 models", times["models"])


def time_slates(rng: np.random.Generator, repeats: int) -> None:
    """20 slots from 200 candidates."""
    for diversity in ("mmr", "dpp"):
        bare_rules, all_rules = without_rules(diversity), with_rules(diversity)
        ours: list[float] = []
        ruled: list[float] = []
        bounded: list[float] = []
        plain: list[float] = []
        for number in range(repeats):
            candidates = instance(rng, 200, 40)
            bare = SlateCandidates(utility=candidates.utility, topics=candidates.topics)
            ours.append(timed_ms(select, bare, bare_rules, 20))
            ruled.append(timed_ms(select, candidates, all_rules, 20))
            bounded.append(timed_ms(certified, candidates, all_rules, 20))
            if number < max(3, repeats // 50):  # the plain ones take their time
                plain.append(timed_ms(plain_slate, bare, diversity, 20))
                value = SlateProblem(bare, bare_rules, {}).value
                mine = select(bare, bare_rules, 20).chosen.tolist()
                assert abs(value(mine) - value(plain_slate(bare, diversity, 20))) < 1e-5
        whole = [
            timed_ms(select, instance(rng, 1000, 60), all_rules, 200)
            for _ in range(max(10, repeats // 10))
        ]
        line(f"{diversity}, 200 candidates, 20 slots", ours)
        line(f"{diversity}, the same, all rules on", ruled)
        line(f"{diversity}, the same, all rules on, with its bound", bounded)
        line(f"{diversity}, 1,000 candidates, 200 slots, all rules", whole)
        line(f"  {diversity} in plain Python, no rules, no bound", plain)


def gaps(
    rng: np.random.Generator, rules: SlateRules, n: int, n_topics: int, slots: int, repeats: int
) -> Iterator[tuple[SlateCandidates, Certified]]:
    """Instances that have full slates, with their slates."""
    for _ in range(repeats):
        candidates = instance(rng, n, n_topics)
        if rules == without_rules(rules.diversity):
            candidates = SlateCandidates(utility=candidates.utility, topics=candidates.topics)
        whole = certified(candidates, rules, slots)
        if len(whole.slate.chosen) == slots:
            yield candidates, whole


def show_gaps(rng: np.random.Generator, repeats: int) -> None:
    """Certified everywhere; true where every slate can be tried."""
    print(f"\n{'gap per slot, in hundredths of utility':54}{'certified':>20}{'true':>20}")
    print(f"{'':54}{'mean':>10}{'p99':>10}{'mean':>10}{'p99':>10}{'best':>10}")
    for diversity in ("mmr", "dpp"):
        for name, rules in (
            ("diversity alone", without_rules(diversity)),
            ("caps, pins, sponsored", without_interests(diversity)),
            ("all rules", with_rules(diversity)),
        ):
            slots = (4,) if rules.exploration_slots else ()
            small = rules.model_copy(update={"exploration_slots": slots})
            proven, true = [], []
            for candidates, whole in gaps(rng, small, 10, 5, 4, max(10, repeats // 5)):
                best, _ = best_slate(problem_of(candidates, small), 4, whole.slate.relaxed)
                proven.append(100 * whole.gap / 4)
                true.append(100 * (best - whole.slate.value) / 4)
            figures = [f(x) for x in (proven, true) for f in (np.mean, p99)]
            found = f"{np.mean(np.array(true) < 1e-4):9.0%}"
            label = f"{diversity}, {name}, 10 candidates, 4 slots"
            print(f"{label:54}" + "".join(f"{f:10.2f}" for f in figures) + f" {found}", flush=True)
            big = [100 * s.gap / 20 for _, s in gaps(rng, rules, 200, 40, 20, repeats)]
            label = f"{diversity}, {name}, 200 candidates, 20 slots"
            print(f"{label:54}{np.mean(big):10.2f}{p99(big):10.2f}", flush=True)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return float(np.percentile(values, 99))


def problem_of(candidates: SlateCandidates, rules: SlateRules) -> SlateProblem:
    """For the exact solver, with the pin at slot 3 if its item may be shown."""
    if candidates.pin_slot is None:
        return SlateProblem(candidates, rules, {})
    pinned = np.flatnonzero((candidates.pin_slot == 3) & candidates.may_be_shown)
    return SlateProblem(candidates, rules, {3: int(pinned[0])} if len(pinned) else {})


def main(repeats: int) -> None:
    """Prints times, then gaps."""
    rng = np.random.default_rng(0)
    with threadpool_limits(1):
        print(f"{'milliseconds of one core':54}{'p50':>10}{'p99':>10}")
        time_blend(rng, repeats)
        time_slates(rng, repeats)
        show_gaps(rng, repeats)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
