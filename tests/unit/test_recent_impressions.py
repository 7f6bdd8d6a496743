"""What was shown of late counts: a day of impressions, and caps that look back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recent_impressions import MOST_REMEMBERED, RecentImpressions
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.interchange import TIMESTAMP
from recmesh.v1 import recommendation_pb2
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset

HOUR_S = 3600


def shown(*rows: tuple[str, str, int], kind: str = "impression", counted: bool = True) -> pa.Table:
    """Request, item and second of each, all of ``reader``."""
    requests, items, seconds = zip(*rows, strict=True)
    n = len(rows)
    return pa.table(
        {
            "user_id": ["reader"] * n,
            "item_id": items,
            "event_type": [kind] * n,
            "received_at": pa.array([1000 * s for s in seconds], pa.int64()).cast(TIMESTAMP),
            "request_id": requests,
            "campaign_id": [""] * n,
            "counted": [counted] * n,
        }
    )


def items_of(impressions: RecentImpressions, now: int, but_request: str = "") -> list[str]:
    return [one.item_id for one in impressions.of("reader", now, but_request=but_request)]


def test_a_day_is_remembered_newest_first() -> None:
    impressions = RecentImpressions()
    impressions.take(shown(("a", "i1", 0), ("a", "i2", HOUR_S), ("b", "i3", 2 * HOUR_S)), 0)
    assert items_of(impressions, 3 * HOUR_S) == ["i3", "i2", "i1"]
    assert items_of(impressions, 3 * HOUR_S, "a") == ["i3"]
    assert items_of(impressions, 25 * HOUR_S) == ["i3"]
    assert items_of(impressions, 26 * HOUR_S) == []


def test_only_what_counts_and_is_not_too_old_is_taken() -> None:
    impressions = RecentImpressions()
    impressions.take(shown(("a", "i1", 0)), 24 * HOUR_S)
    impressions.take(shown(("a", "i2", 5), kind="click"), 6)
    impressions.take(shown(("a", "i3", 5), counted=False), 6)
    assert items_of(impressions, 6) == []


def test_memory_of_a_user_is_bounded() -> None:
    impressions = RecentImpressions()
    impressions.take(shown(*(("a", f"i{n}", n) for n in range(MOST_REMEMBERED + 5))), 500)
    assert len(items_of(impressions, 500)) == MOST_REMEMBERED


@pytest.fixture
async def mesh(tmp_path: Path) -> Mesh:
    models = ModelPanel({"cf": FunctionModel("cf", lambda item: -int(item[1:]) / 40)})
    await models.refresh()
    return Mesh(models, None, Snapshot.of(dataset(tmp_path), Policy.load(), None))


def ruled(mesh: Mesh, **rules: Any) -> None:
    policy = mesh.snapshot.policy
    surface = policy.surfaces["feed"]
    slate = surface.slate.model_copy(update={"max_per_topic": None, **rules})
    surfaces = {**policy.surfaces, "feed": surface.model_copy(update={"slate": slate})}
    mesh.snapshot = replace(mesh.snapshot, policy=policy.model_copy(update={"surfaces": surfaces}))


async def page(mesh: Mesh) -> list[str]:
    request = recommendation_pb2.RecommendRequest(
        request_id="r1", surface="feed", user_id="reader", page_size=8
    )
    request.context.time.seconds = NOW_UNIX_S
    answer = await recommend(mesh, request, math.inf)
    return [slot.item_id for slot in answer.recommendations]


def of_topic(items: list[str], topic: int) -> int:
    return sum(int(item[1:]) % 4 == topic for item in items)


async def test_a_topic_that_was_shown_enough_rests(mesh: Mesh) -> None:
    ruled(mesh, max_per_topic_recently=5)
    assert of_topic(await page(mesh), 2) > 0
    ago = NOW_UNIX_S - HOUR_S
    mesh.impressions.take(shown(*((f"q{n}", f"i{4 * n + 2}", ago) for n in range(5))), ago)
    assert of_topic(await page(mesh), 2) == 0
    ruled(mesh, max_per_topic_recently=5, recently_h=0.5)
    assert of_topic(await page(mesh), 2) > 0, "an hour ago is not of late then"


async def test_who_does_not_consent_to_personalisation_is_not_followed(mesh: Mesh) -> None:
    ruled(mesh, max_per_topic_recently=5)
    ago = NOW_UNIX_S - HOUR_S
    mesh.impressions.take(shown(*((f"q{n}", f"i{4 * n + 2}", ago) for n in range(5))), ago)
    assert of_topic(await page(mesh), 2) == 0
    store = mesh.snapshot.user_store
    profile = replace(store.get("reader"), consents_personalisation=False)
    written = store.with_written({"reader": profile}, {}, store.erased)
    mesh.snapshot = replace(mesh.snapshot, user_store=written)
    assert of_topic(await page(mesh), 2) > 0


async def test_an_exploration_slot_goes_to_what_few_have_opened(mesh: Mesh) -> None:
    ruled(mesh, exploration_slots=(2,))
    explored = (await page(mesh))[1]
    catalog = mesh.snapshot.items
    assert catalog.popularity[catalog.row_of[explored]] < 1.0
    # Everything has been opened by somebody: nobody explores, and the rule gives way.
    popular = replace(catalog, popularity=catalog.popularity + 1)
    mesh.snapshot = replace(mesh.snapshot, items=popular)
    assert len(await page(mesh)) == 8
