"""Every check finds what is planted, and nothing in a healthy log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from recmesh.offline.diagnosis.diagnose import diagnose
from recmesh.offline.diagnosis.registry import CHECKS
from recmesh.offline.diagnosis.serving_log import DAY_S, ServingLog
from tests.tiny_serving_log import (
    START_S,
    Size,
    assignment,
    campaigns,
    tiny_log,
    with_pages,
    with_slots,
)


def found(log: ServingLog) -> set[tuple[str, str]]:
    return {(one.check, one.measured.subject) for one in diagnose(log).findings}


def late(log: ServingLog) -> np.ndarray:
    return log.slots.unix_s >= log.middle_unix_s


def replaced(log: ServingLog, where: np.ndarray, items: np.ndarray) -> ServingLog:
    """Other items in some slots."""
    return with_slots(log, item=np.where(where, items, log.slots.item))


def popular_everywhere(log: ServingLog) -> ServingLog:
    turned = np.asarray(log.doctors.history.sum(axis=0)).ravel()
    history = log.doctors.history.tolil()
    # A few items that half of the doctors know fill most slots.
    known = np.argsort(-turned)[:5]
    history[: len(log.doctors) // 4, known] = 1.0
    log = replace(log, doctors=replace(log.doctors, history=history.tocsr()))
    some = np.arange(len(log.slots)) % 5 < 3
    return replaced(log, some, known[log.slots.doctor % 5])


def ever_older(log: ServingLog) -> ServingLog:
    published = log.items.published_unix_s
    old = np.flatnonzero(published < np.quantile(published, 0.2))
    return replaced(log, late(log), old[np.arange(len(log.slots)) % len(old)])


def nothing_new(log: ServingLog) -> ServingLog:
    published = log.items.published_unix_s[log.slots.item]
    new = log.slots.unix_s - published < 7 * DAY_S
    old = np.flatnonzero(log.items.published_unix_s < START_S - 30 * DAY_S)
    # Of the same field, so that nothing else changes.
    same = (old[:, None] % 4 == np.arange(4)).T
    pick = np.array([old[same[k]][n % same[k].sum()] for n, k in enumerate(log.slots.item % 4)])
    return replaced(log, new, pick)


def new_doctors_without_clicks(log: ServingLog) -> ServingLog:
    new = np.arange(len(log.doctors)) % 3 == 0
    history = log.doctors.history.tolil()
    history[new] = 0.0
    log = replace(log, doctors=replace(log.doctors, history=history.tocsr()))
    clicked = log.slots.clicked & ~(new[log.slots.doctor] & (np.arange(len(log.slots)) % 10 > 0))
    return with_slots(log, clicked=clicked)


def narrowing(log: ServingLog) -> ServingLog:
    """Later every doctor sees one topic, another one each."""
    topics = log.items.topics.argmax(axis=1).A1
    wanted = log.doctors.specialty[log.slots.doctor] * 4 + log.slots.doctor // 4 % 4
    of_topic = [np.flatnonzero(topics == t) for t in range(16)]
    out = START_S - 10 * DAY_S
    of_topic = [some[log.items.published_unix_s[some] < out] for some in of_topic]
    pick = np.array([of_topic[t][n % len(of_topic[t])] for n, t in enumerate(wanted)])
    return replaced(log, late(log), pick)


def all_the_same(log: ServingLog) -> ServingLog:
    """Later a third of all slots, of whatever field, go to a few items, neither new nor old."""
    age = log.items.published_unix_s
    ten = np.argsort(np.abs(age - np.median(age)))[:40]
    some = late(log) & (np.arange(len(log.slots)) % 3 == 0)
    field = log.slots.item % 4
    of_field = [ten[ten % 4 == k][:4] for k in range(4)]
    pick = np.array([of_field[k][n % len(of_field[k])] for n, k in enumerate(field)])
    return replaced(log, some, pick)


def starved(log: ServingLog) -> ServingLog:
    """Neurologists see other fields."""
    own = log.doctors.specialty[log.slots.doctor] == 1
    return replaced(log, own & (log.slots.item % 4 == 1), (log.slots.item + 1) % len(log.items))


def paid(log: ServingLog, some: np.ndarray, budget: int, days: float) -> ServingLog:
    return with_slots(
        replace(log, campaigns=campaigns(budget, days)),
        campaign=np.where(some, 0, log.slots.campaign),
    )


def sponsored(log: ServingLog) -> ServingLog:
    return paid(log, np.arange(len(log.slots)) % 4 == 0, 1600, 14)


def over_paced(log: ServingLog) -> ServingLog:
    early = log.slots.unix_s < log.start_unix_s + 4 * DAY_S
    return paid(log, early & (np.arange(len(log.slots)) % 4 == 0), 600, 40)


def degraded(log: ServingLog) -> ServingLog:
    assert log.pages is not None
    down = (log.pages.unix_s > START_S + 5 * DAY_S) & (log.pages.unix_s < START_S + 9 * DAY_S)
    return with_pages(log, degraded=down[:, None])


def short(log: ServingLog) -> ServingLog:
    assert log.pages is not None
    some = np.arange(len(log.pages)) % 10 == 0
    return with_pages(log, filled=np.where(some, 3, log.pages.filled))


def shifted_scores(log: ServingLog) -> ServingLog:
    """As often clicked as ever, and as much is promised in all: only the spread is another."""
    rng = np.random.default_rng(1)
    scores = log.slots.scores.copy()
    scores[late(log), 0] = rng.choice([0.05, 0.35], int(late(log).sum()))
    return with_slots(log, scores=scores)


def overconfident(log: ServingLog) -> ServingLog:
    """Clicks become rare, scores do not."""
    gone = late(log) & (np.arange(len(log.slots)) % 4 > 0)
    return with_slots(log, clicked=log.slots.clicked & ~gone)


def elsewhere(log: ServingLog) -> ServingLog:
    """Later items lie in one half of the space."""
    assert log.items.vectors is not None
    vectors = log.items.vectors.copy()
    vectors[:, 0] = np.abs(vectors[:, 0])
    half = np.flatnonzero(log.items.vectors[:, 0] > 0.1)
    half = half[log.items.published_unix_s[half] < START_S]
    of_field = [half[half % 4 == k] for k in range(4)]
    pick = np.array([of_field[k][n % len(of_field[k])] for n, k in enumerate(log.slots.item % 4)])
    return replaced(log, late(log), pick)


def unequal_arms(log: ServingLog) -> ServingLog:
    return replace(log, assignments=(assignment(110, 50),))


PLANTED: dict[tuple[str, str], Callable[[ServingLog], ServingLog]] = {
    ("popularity-bias", ""): popular_everywhere,
    ("stale-content", ""): ever_older,
    ("cold-start", "new items"): nothing_new,
    ("cold-start", "new doctors"): new_doctors_without_clicks,
    ("filter-bubble", ""): narrowing,
    ("feedback-loop", ""): all_the_same,
    ("starving-specialty", "specialty neurology"): starved,
    ("sponsor-pressure", ""): sponsored,
    ("over-paced-campaign", "campaign spring"): over_paced,
    ("fallback-share", "source cf"): degraded,
    ("short-slates", "short"): short,
    ("score-drift", "model cf"): shifted_scores,
    ("calibration-drift", "model cf"): overconfident,
    ("embedding-drift", "what is shown"): elsewhere,
    ("biased-assignment", "experiment header"): unequal_arms,
}


def test_every_check_has_a_failure_to_find() -> None:
    assert {check for check, _ in PLANTED} == set(CHECKS)


@pytest.mark.parametrize("planted", PLANTED, ids=" ".join)
def test_what_is_planted_is_found(planted: tuple[str, str]) -> None:
    assert planted in found(PLANTED[planted](tiny_log()))


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_log_raises_nothing(seed: int) -> None:
    assert found(tiny_log(seed)) == set()


@pytest.mark.parametrize("planted", PLANTED, ids=" ".join)
def test_a_small_log_says_that_it_is_too_few(planted: tuple[str, str]) -> None:
    diagnosis = diagnose(PLANTED[planted](tiny_log(size=Size(doctors=24))))
    assert not {one.check for one in diagnosis.findings} - {"biased-assignment"}
    said = [one.why for some in diagnosis.too_few.values() for one in some]
    assert any("needs 30" in why for why in said)
