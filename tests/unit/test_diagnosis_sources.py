"""A serving log of events: what is shown, what is clicked, and what came before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recmesh.offline.diagnosis.event_source import (
    COLUMNS,
    Settings,
    ingested_events,
    serving_log,
)
from recmesh.orchestrator.experiments.experiment import Arm, Experiment, ExperimentBook, Layer
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.storage.event_log import COLUMNS as RECORDED
from tests.small_world import NOW_UNIX_S, dataset

NOW = datetime.fromtimestamp(NOW_UNIX_S, UTC)
BLANKS: dict[str, Any] = {"rank": 0, "counted": True}


def events(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema([RECORDED.field(name) for name in COLUMNS])
    filled = [{name: BLANKS.get(name, "") for name in COLUMNS} | row for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


def shown(item: str, minutes: float = 0.0, **more: Any) -> dict[str, Any]:
    row = {"user_id": "reader", "item_id": item, "event_type": "impression", "surface": "feed"}
    return row | {"time": NOW + timedelta(minutes=minutes)} | more


def clicked(item: str, minutes: float = 0.0, **more: Any) -> dict[str, Any]:
    return shown(item, minutes) | {"event_type": "click"} | more


@pytest.fixture
def world(tmp_path: Path) -> Dataset:
    return dataset(tmp_path)


def test_slots_are_impressions_of_known_items_in_order(world: Dataset) -> None:
    log = serving_log(
        world,
        events(shown("i2", 5, rank=2), shown("i1", 1, rank=1), shown("gone", 2), clicked("i3", 3)),
        Settings(),
    )
    assert [log.items.item_ids[row] for row in log.slots.item] == ["i1", "i2"]
    assert log.slots.rank.tolist() == [1, 2]
    assert log.surfaces == ["feed"]


def test_a_click_belongs_to_its_page(world: Dataset) -> None:
    log = serving_log(
        world,
        events(
            shown("i1", 0, request_id="a"),
            shown("i1", 1, request_id="b"),
            clicked("i1", 2, request_id="a"),
        ),
        Settings(),
    )
    assert log.slots.clicked.tolist() == [True, False]


def test_a_click_without_a_page_belongs_to_the_last_impression_within_the_hour(
    world: Dataset,
) -> None:
    log = serving_log(
        world,
        events(
            shown("i1", 0),
            shown("i1", 30),
            clicked("i1", 31),
            shown("i2", 0),
            clicked("i2", 61),
            shown("i3", 0, user_id="colleague"),
            clicked("i3", 1),
        ),
        Settings(),
    )
    by_item = list(zip(log.slots.item.tolist(), log.slots.clicked.tolist(), strict=True))
    assert sorted(by_item) == [(1, False), (1, True), (2, False), (3, False)]


def test_an_impression_that_does_not_count_is_no_slot(world: Dataset) -> None:
    log = serving_log(world, events(shown("i1"), shown("i1", 1, counted=False)), Settings())
    assert len(log.slots) == 1


def test_history_is_what_was_turned_to_before_the_period(world: Dataset) -> None:
    log = serving_log(
        world,
        events(clicked("i4", -3 * 24 * 60), shown("i1"), shown("i2", -24 * 60), clicked("i1", 1)),
        Settings(days=1),
        history=ingested_events(world),
    )
    row = log.doctors.user_ids.index("reader")
    turned = {log.items.item_ids[i] for i in log.doctors.history[row].indices}
    assert turned == {"i0", "i1", "i4"}


def test_the_period_is_no_longer_than_the_log(world: Dataset) -> None:
    log = serving_log(world, events(shown("i1"), shown("i2", 24 * 60)), Settings(days=30))
    assert log.days == pytest.approx(1.0)


def test_doctors_whom_nobody_described_are_there(world: Dataset) -> None:
    log = serving_log(world, events(shown("i1", user_id="new")), Settings())
    row = int(log.slots.doctor[0])
    assert log.doctors.user_ids[row] == "new"
    assert log.doctors.specialty[row] < 0


def test_a_log_without_impressions_is_refused(world: Dataset) -> None:
    with pytest.raises(DataError, match="no impression"):
        serving_log(world, events(clicked("i1")), Settings())


def book() -> ExperimentBook:
    experiment = Experiment(
        name="header",
        layer="interface",
        arms=(Arm(name="control", share=0.5), Arm(name="treatment", share=0.5)),
        first_bucket=0,
        buckets=10_000,
        starts_at=NOW - timedelta(days=9),
        ends_at=NOW + timedelta(days=9),
    )
    layer = Layer(name="interface", salt="s")
    return ExperimentBook(layers=(layer,), experiments=(experiment,))


def test_a_doctor_has_the_first_arm_of_the_period(world: Dataset) -> None:
    arms = ['{"header":"treatment"}', '{"header":"control"}']
    log = serving_log(
        world,
        events(
            shown("i1", 0, experiment_arms=arms[0]),
            shown("i2", 1, experiment_arms=arms[1]),
            shown("i2", 2, experiment_arms=arms[1], user_id="colleague"),
            shown("i2", 2, experiment_arms='{"other":"x"}', user_id="stranger"),
        ),
        Settings(experiments=book()),
    )
    (found,) = log.assignments
    names = [log.doctors.user_ids[row] for row in found.doctor]
    assert dict(zip(names, found.arm.tolist(), strict=True)) == {"reader": 1, "colleague": 0}


def test_ingested_events_can_be_looked_at(world: Dataset) -> None:
    found = ingested_events(world)
    assert found.column_names == list(COLUMNS)
    assert np.all(found["counted"].to_numpy(zero_copy_only=False))
