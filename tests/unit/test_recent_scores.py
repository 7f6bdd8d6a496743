from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recmesh.models.model import Context, Float32, User
from recmesh.models.recent_scores import RecentScores

NOW = 1_700_000_000
READER = User("u", ["a", "b"], [2, 2], [NOW - 9, NOW - 5], ["cardiology"], "DE", "de")
ASKED = Context(READER, "feed", NOW)


class Counting:
    """Computes a number that is new each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Context) -> Float32 | None:
        self.calls += 1
        return np.array([self.calls], np.float32)


def test_the_same_user_at_the_same_second_is_computed_once() -> None:
    recent, compute = RecentScores(), Counting()
    again = Context(replace(READER, history_item_ids=("a", "b")), "feed", NOW)
    assert [recent.of(c, compute) for c in (ASKED, again)] == [1, 1]


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, now_unix_s=NOW + 1),
        replace(ASKED, surface="network"),
        replace(ASKED, query="heart"),
        *(
            replace(ASKED, user=replace(READER, **change))
            for change in (
                {"user_id": "v"},
                {"history_item_ids": ["a", "c"]},
                {"history_item_ids": ["ab", ""]},
                {"history_event_types": [2, 3]},
                {"history_times_unix_s": [NOW - 9, NOW - 4]},
                {"specialties": []},
                {"country": "AT"},
                {"language": "en"},
            )
        ),
    ],
)
def test_whatever_else_is_known_is_computed_anew(other: Context) -> None:
    recent, compute = RecentScores(), Counting()
    assert [recent.of(c, compute) for c in (ASKED, other, ASKED)] == [1, 2, 1]


def test_nothing_known_is_kept_too() -> None:
    calls = []
    recent = RecentScores()
    for _ in range(2):
        assert recent.of(ASKED, lambda c: calls.append(c)) is None
    assert len(calls) == 1


def test_what_was_used_longest_ago_leaves_first() -> None:
    asked = [replace(ASKED, now_unix_s=NOW + n) for n in range(3)]
    one = 16 + 4  # a digest and a number
    recent, compute = RecentScores(max_bytes=2 * one), Counting()
    order = [asked[0], asked[1], asked[0], asked[2], asked[0], asked[1]]
    assert [recent.of(c, compute) for c in order] == [1, 2, 1, 3, 1, 4]


def test_without_room_everything_is_computed() -> None:
    recent, compute = RecentScores(max_bytes=0), Counting()
    assert [recent.of(ASKED, compute) for _ in range(2)] == [1, 2]


def test_nobody_can_change_what_others_are_given() -> None:
    recent = RecentScores()
    scores = recent.of(ASKED, Counting())
    assert scores is not None
    with pytest.raises(ValueError, match="read-only"):
        scores[0] = 0
