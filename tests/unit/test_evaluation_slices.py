from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from recmesh.models.model import silent
from recmesh.offline.evaluation.bootstrap import UserBootstrap
from recmesh.offline.evaluation.figures import JudgedSystem, figures_of, slice_figures
from recmesh.offline.evaluation.page_judge import PageJudge
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.user_slices import user_slices
from recmesh.storage.dataset import Dataset
from tests.small_world import DAY_S, NOW_UNIX_S, write_table

START = datetime.fromtimestamp(NOW_UNIX_S, UTC)
END = datetime.fromtimestamp(NOW_UNIX_S + 9 * DAY_S, UTC)
READERS = 30
"""Each of them read one item before the period, and wanted another in it."""


def at(days: float) -> datetime:
    return datetime.fromtimestamp(NOW_UNIX_S + int(days * DAY_S), UTC)


@pytest.fixture(scope="module")
def judged_on(tmp_path_factory: pytest.TempPathFactory) -> Period:
    """Items a, b, c, d; readers turned to a (or the last ten to b) and want c; new ones want a."""
    folder = tmp_path_factory.mktemp("sliced")
    items = [
        {
            "item_id": name,
            "content_type": "news",
            "title": name,
            "topics": topics,
            "authors": [author],
            "sponsor": sponsor,
            "published_at": published,
        }
        for name, topics, author, sponsor, published in (
            ("a", ["heart"], "Ada", "", at(-10)),
            ("b", ["skin"], "Ben", "Maker", at(-20)),
            ("c", ["heart", "skin"], "Ada", "Other", at(-30)),
            ("d", ["bone"], "Cy", "", None),
        )
    ]
    users = [
        {
            "user_id": f"u{n:02}",
            "specialties": ["cardiology" if n < 25 else "urology"],
            "consents_sponsored": n != 0,
        }
        for n in range(READERS)
    ] + [{"user_id": f"v{n:02}", "specialties": ["cardiology"]} for n in range(20)]
    events = []

    def turn(user: str, item: str, days: float, surface: str) -> None:
        events.append(
            {
                "event_id": f"{user}-{item}",
                "user_id": user,
                "item_id": item,
                "event_type": "click",
                "time": at(days),
                "surface": surface,
            }
        )

    for n in range(READERS):
        turn(f"u{n:02}", "b" if n >= 20 else "a", -2, "feed")
        turn(f"u{n:02}", "c", 1, "feed" if n < 22 else "search")
    turn("w", "c", -1, "feed")
    turn("w", "d", -1, "feed")
    for n in range(20):
        turn(f"v{n:02}", "a", 2, "feed")
    campaign = {
        "campaign_id": "k",
        "sponsor": "Maker",
        "item_ids": ["b"],
        "starts_at": at(-1),
        "ends_at": at(1),
        "budget_impressions": 10,
        "value": 0.5,
        "disclosure": "paid",
    }
    tables = {
        "items": items,
        "users": [*users, {"user_id": "w"}],
        "events": sorted(events, key=lambda event: event["time"]),
        "campaigns": [campaign],
    }
    files = {name: write_table(folder, name, rows) for name, rows in tables.items()}
    return period(Dataset(version="sliced", files=files), START, END)


def page(judged_on: Period, *items: str) -> np.ndarray:  # type: ignore[type-arg]
    """The same page for everybody."""
    places = [judged_on.catalogue.index(item) for item in items]
    return np.tile(np.array(places, np.int64), (len(judged_on.users), 1))


def test_slices_are_by_history_activity_specialty_and_surface(judged_on: Period) -> None:
    found = {(one.dimension, one.name): one for one in user_slices(judged_on)}
    sizes = {name: int(one.users.sum()) for name, one in found.items()}
    assert sizes == {
        ("doctors", "new: no usable history"): 20,
        ("doctors", "with a history"): 30,
        ("activity", "few: 1–1 items"): 30,
        ("specialty", "cardiology"): 45,
        # Five urologists are too few, alone and as the others.
        ("surface", "feed"): 42,
    }
    wanted = found["surface", "feed"].wanted
    assert wanted is not None
    assert wanted.sum() == 42


def test_a_page_is_judged_as_by_hand(judged_on: Period) -> None:
    judge = PageJudge(judged_on, 2, {"default": 10.0})
    pages = judge(page(judged_on, "b", "c"))
    values = {metric: found.tolist() for metric, found in pages.by_user.items()}
    reader, skin_reader, new = 1, 25, 35
    # 31 past users: a has 20 of them, b 10, c and d one each.
    share = (10 / 31 + 1 / 31) / 2
    assert values["popularity"][reader] == pytest.approx(share)
    assert values["novelty"][reader] == pytest.approx((np.log2(31 / 10) + np.log2(31)) / 2)
    assert values["mrr"][reader] == pytest.approx(0.5)
    assert values["hit_rate"][new] == 0.0
    assert values["diversity"][reader] == pytest.approx(0.5)
    # The popular page of a reader of a is b, then c; of a reader of b it is a, then c.
    assert values["serendipity"][reader] == 0.0
    # Half-life 10 days: 20 and 30 days old.
    assert values["age_days"][reader] == pytest.approx(25)
    assert values["freshness"][reader] == pytest.approx((1 / 4 + 1 / 8) / 2)
    # Topics of the page: skin 3/4, heart 1/4.
    assert values["miscalibration"][skin_reader] == pytest.approx(np.log2(1 / (0.99 * 0.75 + 0.01)))
    assert np.isnan(values["miscalibration"][new])
    assert values["sponsorable"][reader] == 0.5
    assert values["delivery"][reader] == 0.25
    assert values["delivery"][0] == 0.0, "who refuses sponsored content is not reached"
    bootstrap = UserBootstrap(len(judged_on.users), 50, 0)
    everybody = np.ones(len(judged_on.users), bool)
    figures = figures_of(pages, everybody, 0, bootstrap)
    assert figures["coverage"].value == 0.5
    # 20 readers of a (20/31) and 10 of b (10/31) see the same page.
    assert figures["popularity_lift"].value == pytest.approx(share / (50 / 93) - 1)
    # Everything wanted is Ada's; she has the second slot of two.
    second = 1 / np.log2(3)
    assert figures["author_inequity"].value == pytest.approx(1 / (1 + second))
    assert figures["sponsor_inequity"].value == pytest.approx(1 / (1 + second))


def test_a_slice_by_surface_counts_only_what_was_wanted_there(judged_on: Period) -> None:
    judge = PageJudge(judged_on, 2, {"default": 10.0})
    system = JudgedSystem("s", "model", judge(page(judged_on, "c", "d")))
    found = {
        (one.dimension, one.name): one.systems["s"]
        for one in slice_figures([system], user_slices(judged_on), 20, 0, silent)
    }
    assert found["doctors", "with a history"]["ndcg"].value == 1.0
    assert found["doctors", "new: no usable history"]["ndcg"].value == 0.0
    assert found["surface", "feed"]["hit_rate"].value == pytest.approx(22 / 42)
    assert set(found["surface", "feed"]) == {"ndcg", "recall", "mrr", "hit_rate"}
    assert "popularity_lift" in found["specialty", "cardiology"]
