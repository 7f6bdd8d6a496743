from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.experiments.interleaving import team_draft
from recmesh.storage.errors import InvalidRequestError

rankings = st.permutations(range(8)).map(lambda order: np.array([order[:6]], np.int64))


def draft(first: list[int], second: list[int], size: int, seed: int) -> tuple[list[int], list[int]]:
    rows = np.array([first], np.int64), np.array([second], np.int64)
    page = team_draft(*rows, size, np.random.default_rng(seed))
    return page.items[0].tolist(), page.team[0].tolist()


def by_hand(first: list[int], second: list[int], size: int, coins: list[int]) -> list[int]:
    """The paper's loop, one pick after another."""
    picks, page = [0, 0], []
    for slot in range(size):
        turn = coins[slot] if picks[0] == picks[1] else int(picks[1] < picks[0])
        page.append(next(i for i in (first, second)[turn] if i not in page))
        picks[turn] += 1
    return page


@given(first=rankings, second=rankings, seed=st.integers(0, 1000))
def test_every_round_both_teams_pick_their_best_left(
    first: np.ndarray, second: np.ndarray, seed: int
) -> None:
    items, team = draft(first[0].tolist(), second[0].tolist(), 6, seed)
    coins = np.random.default_rng(seed)
    drawn = [int(coins.integers(0, 2, 1)[0]) for _ in range(6)]
    assert items == by_hand(first[0].tolist(), second[0].tolist(), 6, drawn)
    assert len(set(items)) == 6
    assert all(set(team[i : i + 2]) == {0, 1} for i in range(0, 6, 2))


def test_the_coin_is_fair_and_seeded() -> None:
    same = np.tile(np.arange(4), (4000, 1))
    page = team_draft(same, same, 4, np.random.default_rng(0))
    assert (page.items == same).all()
    assert abs(page.team.mean() - 0.5) < 0.01
    again = team_draft(same, same, 4, np.random.default_rng(0))
    assert (page.team == again.team).all()


@given(first=rankings, second=rankings, seed=st.integers(0, 1000))
def test_a_slot_is_contested_where_the_teams_of_its_round_want_different_items(
    first: np.ndarray, second: np.ndarray, seed: int
) -> None:
    page = team_draft(first, second, 6, np.random.default_rng(seed))
    above: set[int] = set()
    before = False
    for slot, (item, contested, credited, team) in enumerate(
        zip(
            page.items[0].tolist(),
            page.contested[0].tolist(),
            page.credited[0].tolist(),
            page.team[0].tolist(),
            strict=True,
        )
    ):
        tops = [
            next((i for i in ranking[0].tolist() if i not in above), None)
            for ranking in (first, second)
        ]
        assert contested == (tops[0] != tops[1] or (slot % 2 == 1 and before))
        before = contested
        assert credited == (team if contested else -1)
        above.add(item)


def test_readers_who_click_at_random_favour_neither_ranking() -> None:
    rng = np.random.default_rng(1)
    first, second = np.tile([0, 1, 2, 3], (40_000, 1)), np.tile([0, 3, 1, 4], (40_000, 1))
    page = team_draft(first, second, 4, rng)
    clicks = rng.random(page.items.shape) < np.array([0.5, 0.3, 0.2, 0.1])
    credit = np.where(page.credited == 1, clicks, 0) - np.where(page.credited == 0, clicks, 0)
    mean = credit.sum(axis=1)
    assert abs(mean.mean()) < 4 * mean.std() / np.sqrt(len(mean))


def test_two_rankings_that_are_the_same_contest_nothing() -> None:
    same = np.tile(np.arange(4), (10, 1))
    page = team_draft(same, same, 4, np.random.default_rng(0))
    assert not page.contested.any()
    assert (page.credited == -1).all()


def test_a_ranking_that_runs_out_leaves_the_slots_to_the_other() -> None:
    items, team = draft([7, -1, -1, -1], [1, 2, 3, 4], 6, 0)
    assert sorted(items[:5]) == [1, 2, 3, 4, 7]
    assert items[5] == team[5] == -1
    assert team.count(0) == 1


def test_shapes_are_checked() -> None:
    rows = np.zeros((2, 3), np.int64)
    with pytest.raises(InvalidRequestError, match="pages must be equal"):
        team_draft(rows, rows[:1], 2, np.random.default_rng(0))
    with pytest.raises(InvalidRequestError, match="at least 1 slot"):
        team_draft(rows, rows, 0, np.random.default_rng(0))
