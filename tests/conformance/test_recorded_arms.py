"""Units of experiments from recorded events, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recmesh.offline.experiments.experiment_file import ExperimentFile
from recmesh.offline.experiments.experiment_report import experiment_report
from recmesh.offline.experiments.recorded_pages import recorded_pages
from recmesh.offline.experiments.recorded_units import campaign_units, doctor_units
from recmesh.orchestrator.experiments.assignment import assign
from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    Experiment,
    ExperimentBook,
    Layer,
)
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError, DataError
from recmesh.storage.event_log import CheckedEvent, EventLog
from recmesh.storage.event_tables import arms_text
from recmesh.storage.recorded_arms import RecordedArms
from tests.conformance.test_event_log import event
from tests.small_world import table, write_table

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def experiment(**fields: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "blend",
            "layer": "pages",
            "surfaces": ["feed"],
            "arms": [{"name": "control", "share": 0.5}, {"name": "tuned", "share": 0.5}],
            "first_bucket": 0,
            "buckets": BUCKETS,
            "starts_at": START,
            "ends_at": START + 14 * DAY,
        }
        | fields
    )


def dataset(folder: Path, **tables: list[dict[str, Any]]) -> Dataset:
    files = {name: write_table(folder, name, rows) for name, rows in tables.items()}
    return Dataset(version="small", files=files)


class Recorder:
    """Writes events of pages."""

    def __init__(self, database: Database) -> None:
        self._log = EventLog(database)
        self._number = 0

    def __call__(
        self,
        user: str,
        kind: str,
        item: str,
        arm: str = "",
        *,
        at: datetime = START + DAY,
        of: str = "blend",
        **fields: object,
    ) -> None:
        self._number += 1
        row = {
            "event_type": kind,
            "user_id": user,
            "item_id": item,
            "time": int(1000 * at.timestamp()),
            "request_id": f"page-of-{user}" if arm else "",
            "policy_version": f"policy-of-{arm}" if arm else "",
            "experiment_arms": arms_text({of: arm, "zzz": "x"} if arm else {}),
        }
        made: CheckedEvent = event(f"e{self._number}", **(row | fields))
        self._log.write([made], row["time"])  # type: ignore[arg-type]


@pytest.fixture
def record(database: Database) -> Recorder:
    return Recorder(database)


def rows(units: pa.Table, *columns: str) -> dict[str, tuple[Any, ...]]:
    return {row["unit"]: tuple(row[c] for c in columns) for row in units.to_pylist()}


def test_doctors_are_units_with_what_they_did_and_nothing_else_counts(
    database: Database, record: Recorder, tmp_path: Path
) -> None:
    data = dataset(
        tmp_path,
        users=[
            {"user_id": "ada", "specialties": ["cardiology", "x"], "country": "FR"},
            {"user_id": "grace", "specialties": [], "country": ""},
        ],
        events=[
            {
                "event_id": "old",
                "user_id": "ada",
                "item_id": "i1",
                "event_type": "click",
                "time": START - 2 * DAY,
                "surface": "feed",
            }
        ],
    )
    for item in ("i1", "i2", "i1"):
        record("ada", "impression", item, "tuned")
    record("ada", "click", "i2", "tuned")
    record("ada", "dwell", "i2", "tuned", at=START + 2 * DAY, dwell_ms=1500)
    record("ada", "click", "i3", request_id="r9")
    record("ada", "click", "i9", "other", of="blend-2")
    record("grace", "impression", "i1", "control", campaign_id="c1")
    record("both", "impression", "i1", "control")
    record("both", "impression", "i1", "tuned", request_id="another")
    record("ada", "click", "i5", at=START - DAY)
    record("ada", "click", "i5", at=START - DAY, surface="search")
    record("ada", "click", "i5", at=START - 60 * DAY)
    found = doctor_units(RecordedArms(database), data, experiment(), before_days=28)
    assert rows(found.table, "arm", "specialty", "country") == {
        "ada": ("tuned", "cardiology", "FR"),
        "grace": ("control", "unknown", "unknown"),
    }
    assert found.of_two_arms == 1
    done = rows(found.table, "impressions", "clicks", "positives", "dwell_s", "days", "sponsored")
    assert done == {"ada": (2, 1, 2, 1.5, 2, 0), "grace": (1, 0, 0, 0, 1, 1)}
    assert rows(found.table, "clicks_before", "pages") == {"ada": (2, 1), "grace": (0, 1)}
    assert found.policies == {"control": ["policy-of-control"], "tuned": ["policy-of-tuned"]}


def test_without_events_there_are_no_units(database: Database, tmp_path: Path) -> None:
    empty = Dataset(version="", files={})
    found = doctor_units(RecordedArms(database), empty, experiment(), before_days=28)
    assert found.table.num_rows == 0
    pages = recorded_pages(RecordedArms(database).events("blend"), experiment(), "click")
    assert (pages.units, len(pages.credit)) == (0, 0)


def test_credit_goes_to_the_arm_that_picked_once_an_item(
    database: Database, record: Recorder
) -> None:
    for user, picks in {"ada": ("tuned", "control"), "grace": ("control", "tuned")}.items():
        for rank, arm in enumerate(picks, start=1):
            record(user, "impression", f"i{rank}", arm, rank=rank)
    for _ in range(3):
        record("ada", "click", "i1", "tuned", rank=1)
    record("grace", "click", "i1", "control", rank=1)
    record("grace", "click", "i2", "tuned", rank=2)
    record("grace", "search", "", "interleaved", query="heart")
    found = recorded_pages(RecordedArms(database).events("blend"), experiment(), "click")
    assert sorted(found.credit.tolist()) == [0.0, 1.0]
    assert (found.began, found.wanted) == (
        {"control": 1, "tuned": 1},
        {"control": 1, "tuned": 2},
    )
    assert found.shown == {"control": 2, "tuned": 2}


def test_campaigns_are_units_with_what_was_done_to_their_items(
    database: Database, record: Recorder, tmp_path: Path
) -> None:
    names = [f"c{n}" for n in range(40)]
    campaign = {"starts_at": START, "ends_at": START + 14 * DAY, "budget_impressions": 1}
    data = dataset(
        tmp_path,
        campaigns=[
            campaign | {"campaign_id": name, "item_ids": [f"item-{name}", "shared"]}
            for name in names
        ],
    )
    test = experiment(
        surfaces=[],
        unit="campaign",
        arms=[
            {"name": "shown", "share": 0.5},
            {"name": "left-out", "share": 0.5, "takes_part": False},
        ],
    )
    book = ExperimentBook(layers=(Layer(name="pages", salt="s"),), experiments=(test,))
    record("ada", "click", "item-c1")
    record("ada", "click", "item-c2", at=START - DAY)
    record("ada", "save", "shared")
    record("ada", "click", "item-c3", at=START + 9 * DAY)
    stopped = book.model_copy(update={"experiments": (test.model_copy(update={"killed": True}),)})
    found = campaign_units(
        RecordedArms(database), data, stopped, stopped.experiments[0], START + 5 * DAY, 28
    )
    at = START.timestamp()
    arms = {name: assign(book, name, at, unit="campaign")["blend"] for name in names}
    assert rows(found.table, "arm") == {name: (arm,) for name, arm in arms.items()}
    assert set(arms.values()) == {"shown", "left-out"}
    done = rows(found.table, "clicks", "saves", "clicks_before")
    assert done["c1"] == (1, 1, 0)
    assert done["c2"] == (0, 1, 1)
    assert done["c3"] == (0, 1, 0), "after its end"


FILE = """
name = "sponsoring"
hypothesis = "Sponsoring an item makes doctors save it."
unit = "campaign"
days = 14
[[arms]]
name = "shown"
[[arms]]
name = "left-out"
takes_part = false
[plan]
planned_units = 40
[[plan.metrics]]
name = "saves"
numerator = "saves"
"""


def test_a_campaign_test_is_reported_by_its_plan(
    database: Database, record: Recorder, tmp_path: Path
) -> None:
    file = ExperimentFile.read(FILE, "file")
    store = ExperimentStore(tmp_path / "experiments")
    wanted = file.experiment({}, START)
    plan = file.plan.model_dump(mode="json")
    store.create(wanted, days=14, file=FILE, plan=plan, by="ada")
    campaign = {"starts_at": START, "ends_at": START + 14 * DAY, "budget_impressions": 1}
    data = Dataset(version="", files={})
    names = [f"c{n}" for n in range(40)]
    data.__dict__["campaigns"] = table(
        "campaigns", [campaign | {"campaign_id": n, "item_ids": [f"item-{n}"]} for n in names]
    )
    recorded = RecordedArms(database)

    def report(now: datetime) -> Any:
        return experiment_report(store.read(), "sponsoring", recorded, data, now)

    with pytest.raises(ConfigurationError, match="nobody took part yet"):
        report(START)
    store.start("sponsoring", 1.0, "ada", START)
    with pytest.raises(DataError, match="nobody has recorded an event yet"):
        experiment_report(store.read(), "sponsoring", None, data, START + DAY)
    book = store.read().book
    for name in names:
        assigned = assign(book, name, START.timestamp(), unit="campaign")["sponsoring"]
        record("ada", "save", f"item-{name}")
        if assigned == "shown":
            record("grace", "save", f"item-{name}")
    so_far, after = report(START + 3 * DAY), report(START + 20 * DAY)
    for found in (so_far, after):
        (goal,) = found.analysis.goals
        assert (goal.effect.control, goal.effect.treatment) == (2.0, 1.0)
        assert "always-valid intervals say something from 200 units" in " ".join(found.remarks)
    assert (so_far.state, so_far.final, so_far.days_run) == ("running", False, 3.0)
    assert (after.state, after.final, after.days_run) == ("ended", True, 14.0)
    assert '"always_valid_interval": [\n' in after.as_json()
