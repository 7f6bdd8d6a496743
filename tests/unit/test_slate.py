"""Slates hold to their rules, relax them in order, and know how far from the best they are."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from recmesh.offline.evaluation.exact_slate import SlateProblem, best_slate
from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.certified import Certified, certified
from recmesh.orchestrator.slate.chance import draws
from recmesh.orchestrator.slate.propensities import propensities
from recmesh.orchestrator.slate.rules import PINS, RELAXATION_ORDER, SlateRules
from recmesh.orchestrator.slate.select import Slate, select

INSTANCES = max(1000, settings.default.max_examples)
"""10,000 with ``--hypothesis-profile=thorough``."""


@dataclass(frozen=True)
class Instance:
    candidates: SlateCandidates
    rules: SlateRules
    slots: int
    draws: np.ndarray

    def slate(self) -> Slate:
        return select(self.candidates, self.rules, self.slots, self.draws)

    def certified(self) -> Certified:
        return certified(self.candidates, self.rules, self.slots, self.draws)


def drawn(seed: int, n: int, slots: int) -> Instance:
    """Any columns may be absent, any rule may be off."""
    rng = np.random.default_rng(seed)

    def perhaps(value: Any) -> Any:
        return value if rng.random() < 0.6 else None

    n_words = int(rng.integers(1, 3))
    used = rng.choice(64 * n_words, int(rng.integers(1, 7)), replace=False)
    has = np.zeros((n, 64 * n_words), np.uint8)
    has[:, used] = rng.random((n, len(used))) < rng.uniform(0.1, 0.7)
    bits = np.packbits(has, axis=1, bitorder="little").view(np.uint64)
    utility = rng.random(n).astype(np.float32)
    utility[rng.random(n) < 0.1] = rng.choice([-np.inf, np.nan])
    if rng.random() < 0.2:
        utility = np.round(utility, 1)  # ties
    interests = np.zeros(64 * n_words, np.float32)
    interests[used] = rng.random(len(used)) * (rng.random(len(used)) < 0.7)
    counts = rng.integers(0, 3, 64 * n_words).astype(np.int32)
    authors, sponsors = rng.integers(0, 4, n), rng.integers(0, 3, n)
    author_shown = rng.integers(0, 3, 4).astype(np.int32)[authors]
    sponsor_shown = rng.integers(0, 2, 3).astype(np.int32)[sponsors]
    campaigns = rng.integers(0, 3, n)
    room = rng.integers(0, 3, 3).astype(np.int32)[campaigns]
    pin_slot = np.where(rng.random(n) < 0.25, rng.integers(1, 9, n), 0).astype(np.int32)
    candidates = SlateCandidates(
        utility=utility,
        topics=bits,
        boost=perhaps((rng.random(n) * 0.4).astype(np.float32)),
        blocked=perhaps(rng.random(n) < 0.15),
        pin_slot=perhaps(pin_slot),
        author=perhaps(authors),
        sponsored=perhaps(rng.random(n) < 0.4),
        sponsor=perhaps(sponsors),
        campaign=perhaps(campaigns),
        campaign_room=perhaps(room),
        explores=perhaps(rng.random(n) < 0.3),
        interests=perhaps(interests),
        topic_shown=perhaps(counts),
        author_shown=perhaps(author_shown),
        sponsor_shown=perhaps(sponsor_shown),
    )

    def cap() -> int | None:
        return perhaps(int(rng.integers(1, 4)))

    rules = SlateRules(
        diversity=rng.choice(["mmr", "dpp"]),
        diversity_strength=float(rng.choice([0.0, 0.15, 0.5, 1.0])),
        calibration_weight=float(rng.choice([0.0, 0.1, 1.0])),
        max_per_topic=cap(),
        max_per_author=cap(),
        max_per_sponsor=cap(),
        max_per_topic_recently=cap(),
        max_per_author_recently=cap(),
        max_per_sponsor_recently=cap(),
        sponsored_share=float(rng.choice([0.0, 0.3, 0.5, 1.0])),
        sponsored_spacing=int(rng.integers(0, 4)),
        exploration_slots=tuple(rng.integers(1, 9, int(rng.integers(0, 3))).tolist()),
        temperature=float(rng.choice([0.0, 0.0, 0.05, 0.5])),
        most_chance_loss=float(rng.choice([0.0, 0.1, 1.0])),
    )
    return Instance(candidates, rules, slots, draws(str(seed), slots))


seeds = st.integers(0, 2**32 - 1)
instances = st.builds(drawn, seeds, st.integers(0, 25), st.integers(0, 12))
small_instances = st.builds(drawn, seeds, st.integers(0, 8), st.integers(1, 4))


def problem_of(instance: Instance) -> SlateProblem:
    """With the pins that are to be honoured: by slot, where the sponsored rules let them."""
    columns = instance.candidates
    pins: dict[int, int] = {}
    if columns.pin_slot is not None:
        of = np.flatnonzero((columns.pin_slot > 0) & columns.may_be_shown)
        for i in of[np.argsort(columns.pin_slot[of], kind="stable")].tolist():
            slot = int(columns.pin_slot[i])
            more = SlateProblem(columns, instance.rules, {**pins, slot: i})
            if slot not in pins and more.sponsored_well(()):
                pins[slot] = i
    return SlateProblem(columns, instance.rules, pins)


def pins_stand(instance: Instance, problem: SlateProblem, chosen: list[int]) -> bool:
    """Whether no pin had to move: the page did not end before its slot."""
    shown = {slot: i for slot, i in problem.pins.items() if i in chosen}
    ended = len(chosen) < instance.slots and max(problem.pins, default=0) > len(chosen)
    return not ended and all(chosen[slot - 1 : slot] == [i] for slot, i in shown.items())


def last_broken_by(problem: SlateProblem, before: list[int], i: int) -> int:
    """Place in the order of the last rule that candidate ``i`` breaks after these, from 1."""
    columns, rules = problem.candidates, problem.rules
    shown = [*before, *(j for j in problem.pins.values() if j not in before)]
    last = 0
    if len(before) + 1 in rules.exploration_slots:
        last = 0 if columns.explores is not None and columns.explores[i] else 1
    of_topic = [
        (1 + sum(topic in problem.topics(j) for j in shown), topic) for topic in problem.topics(i)
    ]
    earlier = columns.topic_shown
    recent = [n + (0 if earlier is None else int(earlier[topic])) for n, topic in of_topic]
    caps = {
        "max_per_topic": max((n for n, _ in of_topic), default=0),
        "max_per_topic_recently": max(recent, default=0),
    }
    if columns.author is not None and columns.author[i]:
        n = 1 + int((columns.author[shown] == columns.author[i]).sum())
        caps["max_per_author"] = n
        before_i = 0 if columns.author_shown is None else int(columns.author_shown[i])
        caps["max_per_author_recently"] = n + before_i
    for name, count in caps.items():
        cap = getattr(rules, name)
        if cap is not None and count > cap:
            last = max(last, RELAXATION_ORDER.index(name) + 1)
    return last


@settings(max_examples=INSTANCES, deadline=None)
@given(instances)
def test_hard_rules_are_never_broken(instance: Instance) -> None:
    slate, problem = instance.slate(), problem_of(instance)
    chosen = slate.chosen.tolist()
    assert len(chosen) <= instance.slots
    assert len(set(chosen)) == len(chosen)
    assert instance.candidates.may_be_shown[chosen].all()
    assert replace(problem, pins={}).sponsored_well(chosen)
    for slot, i in problem.pins.items():
        stays = slot <= len(chosen) and chosen[slot - 1] == i
        assert stays or slot > instance.slots or (PINS in slate.relaxed and i not in chosen[slot:])


@settings(max_examples=INSTANCES, deadline=None)
@given(instances)
def test_what_is_relaxed_is_what_is_broken(instance: Instance) -> None:
    slate, problem = instance.slate(), problem_of(instance)
    names = tuple(name for name in slate.relaxed if name != PINS)
    assert names == tuple(name for name in RELAXATION_ORDER if name in names)
    if PINS not in slate.relaxed:
        broken = problem.broken(slate.chosen.tolist())
        assert {*names} - {"exploration_slots"} == broken - {"exploration_slots"}
        assert ("exploration_slots" in broken) == ("exploration_slots" in names)


@settings(max_examples=INSTANCES, deadline=None)
@given(instances)
def test_rules_give_way_in_their_order_and_only_for_need(instance: Instance) -> None:
    slate, problem = instance.slate(), problem_of(instance)
    chosen, pinned = slate.chosen.tolist(), problem.pins.values()
    assume(pins_stand(instance, problem, chosen))
    for at, taken in enumerate(chosen):
        if taken in pinned:
            continue
        before = chosen[:at]
        allowed = [
            i
            for i in np.flatnonzero(instance.candidates.may_be_shown).tolist()
            if i not in (*before, *pinned) and problem.sponsored_well((*before, i))
        ]
        needed = [last_broken_by(problem, before, i) for i in allowed]
        assert last_broken_by(problem, before, taken) == min(needed)


def gap_to_best(per_slot: float) -> str:
    """For ``--hypothesis-show-statistics``."""
    if per_slot <= 1e-6:
        return "is the best slate"
    bound = next((bound for bound in (0.01, 0.03, 0.1) if per_slot <= bound), None)
    return f"at most {bound} a slot from the best" if bound else "farther from the best"


@settings(max_examples=INSTANCES, deadline=None)
@given(small_instances)
def test_the_bound_is_above_the_best_and_the_best_above_the_slate(instance: Instance) -> None:
    whole, problem = instance.certified(), problem_of(instance)
    slate = whole.slate
    chosen = slate.chosen.tolist()
    assume(pins_stand(instance, problem, chosen))
    assert slate.value == pytest.approx(problem.value(chosen), abs=1e-6)
    best, _ = best_slate(problem, len(chosen), slate.relaxed)
    assert slate.value <= best + 1e-6
    assert best <= whole.bound + 1e-6
    if chosen:
        event(gap_to_best((best - slate.value) / len(chosen)))
    assert whole.gap >= 0


@settings(max_examples=200, deadline=None)
@given(instances, st.integers(0, 12))
def test_pages_are_cuts_of_one_slate(instance: Instance, first: int) -> None:
    first = min(first, instance.slots)
    page = select(instance.candidates, instance.rules, first, draws("r", first)).chosen
    whole = select(
        instance.candidates, instance.rules, instance.slots, draws("r", instance.slots)
    ).chosen
    np.testing.assert_array_equal(page, whole[: len(page)])
    assert len(page) == min(first, len(whole))


@settings(max_examples=INSTANCES, deadline=None)
@given(instances)
def test_propensities_are_those_of_the_choice(instance: Instance) -> None:
    slate = instance.slate()
    assert len(slate.propensity) == len(slate.chance_loss) == len(slate.chosen)
    assert ((slate.propensity > 0) & (slate.propensity <= 1)).all()
    assert (slate.chance_loss >= 0).all()
    assert (slate.chance_loss <= instance.rules.most_chance_loss + 1e-12).all()
    if instance.rules.temperature == 0:
        assert (slate.propensity == 1).all()
    assume(PINS not in slate.relaxed)
    again = propensities(instance.candidates, instance.rules, slate.chosen)
    np.testing.assert_array_equal(again, slate.propensity)


def test_slots_are_drawn_as_often_as_their_propensities_say() -> None:
    candidates = page([0.5, 0.48, 0.45, 0.2], [1, 1, 2, 4])
    rules = SlateRules(
        diversity="dpp", diversity_strength=0.1, temperature=0.05, most_chance_loss=0.2
    )
    n = 4000
    slates = [select(candidates, rules, 2, draws(f"r{i}", 2)) for i in range(n)]
    counted = Counter(tuple(slate.chosen.tolist()) for slate in slates)
    for pair in itertools.permutations(range(4), 2):
        chance = float(np.prod(propensities(candidates, rules, np.array(pair, np.int32))))
        spread = np.sqrt(n * chance * (1 - chance))
        assert abs(counted[pair] - n * chance) <= 4 * spread
    assert all(3 not in pair for pair in counted), "it would cost more than chance may"
    every = itertools.permutations(range(4), 2)
    total = sum(
        np.prod(propensities(candidates, rules, np.array(pair, np.int32))) for pair in every
    )
    assert total == pytest.approx(1.0)


def test_other_rules_give_a_slate_they_would_not_choose_no_chance() -> None:
    candidates = page([0.9, 0.8, 0.1], [1, 2, 4])
    other = np.array([0, 2, 1], np.int32)
    assert propensities(candidates, SlateRules(), other).tolist() == [1, 0, 0]


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(0, 25), st.integers(0, 12))
def test_equal_input_gives_an_equal_slate(seed: int, n: int, slots: int) -> None:
    slate, again = drawn(seed, n, slots).slate(), drawn(seed, n, slots).certified()
    for name in ("chosen", "propensity", "chance_loss", "value", "relaxed"):
        np.testing.assert_array_equal(getattr(slate, name), getattr(again.slate, name))
    assert again.bound == drawn(seed, n, slots).certified().bound


def page(utility: list[float], topics: list[int], **columns: Any) -> SlateCandidates:
    """Topics are bits of one word."""
    bits = np.array(topics, np.uint64)[:, None]
    arrays = {name: np.array(values) for name, values in columns.items()}
    return SlateCandidates(utility=np.array(utility, np.float32), topics=bits, **arrays)


def test_without_diversity_the_slate_is_by_utility() -> None:
    whole = certified(page([0.1, 0.9, 0.5], [1, 1, 1]), SlateRules(), 3)
    assert whole.slate.chosen.tolist() == [1, 2, 0]
    assert whole.slate.value == whole.bound == pytest.approx(1.5)


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
def test_diversity_brings_the_other_topic_forward(diversity: str) -> None:
    candidates = page([0.9, 0.8, 0.7], [1, 1, 2])
    rules = SlateRules(diversity=diversity, diversity_strength=0.3)
    assert select(candidates, rules, 3).chosen.tolist() == [0, 2, 1]


def test_dpp_takes_what_adds_most_to_the_determinant() -> None:
    rng = np.random.default_rng(5)
    topics = rng.integers(1, 2**6, 12).tolist()
    rules = SlateRules(diversity="dpp", diversity_strength=0.4)
    candidates = page(rng.random(12).tolist(), topics)
    problem = SlateProblem(candidates, rules, {})
    naive: list[int] = []
    while len(naive) < 6:
        left = [i for i in range(12) if i not in naive]
        naive.append(max(left, key=lambda i: problem.value([*naive, i])))
    assert select(candidates, rules, 6).chosen.tolist() == naive


def test_pages_follow_interests_when_that_is_asked_for() -> None:
    interests = np.zeros(64, np.float32)
    interests[:2] = 0.5
    candidates = page([0.9, 0.9, 0.9, 0.8, 0.8], [1, 1, 1, 2, 2], interests=interests)
    follows = select(candidates, SlateRules(calibration_weight=1.0), 4)
    assert sorted(follows.chosen.tolist()) == [0, 1, 3, 4]
    assert select(candidates, SlateRules(), 4).chosen.tolist() == [0, 1, 2, 3]


def test_sponsored_slots_keep_their_share_and_distance() -> None:
    paid = [True] * 4 + [False] * 8
    candidates = page(
        [0.9] * 4 + [0.1] * 8, [0] * 12, sponsored=paid, sponsor=[1, 1, 1, 2] + [0] * 8
    )
    rules = SlateRules(sponsored_share=0.5, sponsored_spacing=2, max_per_sponsor=2)
    chosen = select(candidates, rules, 10).chosen
    assert np.flatnonzero(candidates.sponsored[chosen]).tolist() == [1, 4, 7]
    assert chosen[[1, 4, 7]].tolist() == [0, 1, 3]


def test_a_campaign_has_no_more_slots_than_room() -> None:
    paid = [True] * 3 + [False] * 5
    candidates = page(
        [0.9] * 3 + [0.1] * 5,
        [0] * 8,
        sponsored=paid,
        campaign=[7, 7, 9, 0, 0, 0, 0, 0],
        campaign_room=np.array([1, 1, 2] + [0] * 5, np.int32),
    )
    rules = SlateRules(sponsored_share=1.0)
    chosen = select(candidates, rules, 8).chosen
    assert candidates.sponsored is not None
    assert np.flatnonzero(candidates.sponsored[chosen]).tolist() == [0, 1]
    assert len(chosen) == 7


def test_nothing_is_sponsored_that_no_rule_allows() -> None:
    candidates = page([0.9, 0.1], [0, 0], sponsored=[True, False])
    assert select(candidates, SlateRules(), 2).chosen.tolist() == [1]


def test_what_was_shown_lately_counts() -> None:
    shown = np.zeros(64, np.int32)
    shown[0] = 2
    candidates = page([0.9, 0.5, 0.4], [1, 1, 2], topic_shown=shown, author=[1, 2, 3])
    rules = SlateRules(max_per_topic_recently=3)
    slate = select(candidates, rules, 3)
    assert slate.chosen.tolist() == [0, 2, 1]
    assert slate.relaxed == ("max_per_topic_recently",)


def test_an_author_has_no_more_slots_than_the_cap() -> None:
    candidates = page([0.9, 0.8, 0.7, 0.1], [0] * 4, author=[7, 7, 0, 0])
    assert select(candidates, SlateRules(max_per_author=1), 3).chosen.tolist() == [0, 2, 3]


def test_exploration_slots_go_to_who_explores() -> None:
    candidates = page([0.9, 0.8, 0.1], [0] * 3, explores=[False, False, True])
    slate = select(candidates, SlateRules(exploration_slots=(2,)), 3)
    assert slate.chosen.tolist() == [0, 2, 1]
    assert slate.relaxed == ()
    nobody = replace(candidates, explores=None)
    assert select(nobody, SlateRules(exploration_slots=(2,)), 3).relaxed == ("exploration_slots",)


def test_pins_stand_boosts_lift_and_blocks_hide() -> None:
    candidates = page(
        [0.9, 0.8, 0.1, 0.2, 0.95],
        [0] * 5,
        pin_slot=[0, 0, 2, 0, 0],
        boost=[0, 0, 0, 1.0, 0],
        blocked=[False, False, False, False, True],
    )
    assert select(candidates, SlateRules(), 4).chosen.tolist() == [3, 2, 0, 1]


def test_a_pin_behind_the_last_candidate_moves_up_and_that_is_said() -> None:
    slate = select(page([0.9, 0.1], [0, 0], pin_slot=[0, 5]), SlateRules(), 10)
    assert slate.chosen.tolist() == [0, 1]
    assert slate.relaxed == (PINS,)
