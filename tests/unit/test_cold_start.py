from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.offline.evaluation.cold_cases import ColdPeriod
from recmesh.offline.evaluation.cold_start import Settings, cold_start
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.storage.ingest import ingest
from tests.small_world import DAY_S, NOW_UNIX_S, write_table


def at(day: float) -> datetime:
    return datetime.fromtimestamp(NOW_UNIX_S + int(day * DAY_S), UTC)


def event(user: str, item: str, day: float, kind: str = "click") -> dict[str, object]:
    name = f"{user}-{item}-{kind}-{day}"
    return {"event_id": name, "user_id": user, "item_id": item, "event_type": kind, "time": at(day)}


def item(item_id: str, day: float = -100, **more: object) -> dict[str, object]:
    return {"item_id": item_id, "content_type": "c", "title": item_id, "published_at": at(day)} | (
        more
    )


def small(folder: Path, *events: dict[str, object]) -> Dataset:
    items = [
        item("old"),
        item("shown"),
        item("never"),
        item("later", 3),
        item("abroad", countries=["DE"]),
    ]
    users = [{"user_id": name, "country": "FR"} for name in ("reader", "newcomer")]
    rows = {"items": items, "users": users, "events": sorted(events, key=lambda e: e["time"])}
    return Dataset("v", {name: write_table(folder, name, r) for name, r in rows.items()})


def period(dataset: Dataset) -> ColdPeriod:
    return ColdPeriod.of(dataset, at(0), at(10), 7.0)


BEFORE = (event("reader", "old", -1), event("reader", "shown", -1, "impression"))


def named(of: ColdPeriod, rows: np.ndarray) -> list[str]:
    return [of.catalog.item_ids[row] for row in rows]


def test_new_is_what_no_event_names_before(tmp_path: Path) -> None:
    found = period(
        small(tmp_path, *BEFORE, event("reader", "never", 1), event("newcomer", "old", 1))
    )
    assert named(found, np.flatnonzero(found.new_items)) == ["never", "later", "abroad"]
    assert found.new_users == {"newcomer"}


def test_a_case_stands_at_the_first_wanted_new_item(tmp_path: Path) -> None:
    found = period(
        small(
            tmp_path,
            *BEFORE,
            event("reader", "old", 1),
            event("newcomer", "shown", 1),
            event("reader", "never", 2),
            event("reader", "later", 4),
        )
    )
    (case,) = found.cases(found.new_items)
    assert (case.user_id, case.now_unix_s) == ("reader", int(at(2).timestamp()))
    # "later" is published after the request, "abroad" is not licensed.
    assert named(found, case.candidates) == ["never"]
    assert named(found, case.wanted) == ["never"]


def test_what_was_touched_before_is_not_wanted_again(tmp_path: Path) -> None:
    found = period(small(tmp_path, *BEFORE, event("reader", "old", 1), event("reader", "shown", 2)))
    (case,) = found.cases()
    assert named(found, case.wanted) == ["shown"]
    assert "old" not in named(found, case.candidates)


def test_a_period_in_which_nobody_wants_anything_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody wanted"):
        period(small(tmp_path, *BEFORE))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Doctors of two tastes at an even pace; two new items and two newcomers at the end."""
    folder = tmp_path_factory.mktemp("cold")
    source, made = folder / "source", folder / "home"
    source.mkdir()
    rng = np.random.default_rng(0)
    events = []
    for user in range(40):
        for n, number in enumerate(rng.permutation(10)):
            events.append(event(f"u{user:02}", f"{'ab'[user % 2]}{number}", n + user / 100))
    events += [event(f"u{u:02}", f"new-{'ab'[u % 2]}", 9.5 + u / 100) for u in range(10)]
    events += [event("newcomer-a", "a0", 9.7), event("newcomer-b", "b0", 9.7)]
    write_table(
        source,
        "items",
        [item(f"{taste}{n}") for taste in "ab" for n in range(10)]
        + [item("new-a", 9), item("new-b", 8)],
    )
    users = [f"u{u:02}" for u in range(40)] + ["newcomer-a", "newcomer-b"]
    write_table(source, "users", [{"user_id": user} for user in users])
    write_table(source, "events", sorted(events, key=lambda e: e["time"]))
    ties = [(f"u{u:02}", f"u{u + 2:02}") for u in range(38)]
    ties += [("newcomer-a", "u00"), ("newcomer-b", "u01")]
    write_table(
        source,
        "edges",
        [{"source_user_id": a, "target_user_id": b, "edge_type": "follow"} for a, b in ties],
    )
    ingest(source, made / "dataset")
    return made


def test_groups_are_judged_against_their_best_baseline(home: Path) -> None:
    words = ["--home", str(home), "--models", "cf", "--models", "network"]
    words += ["--bootstrap-samples", "50", "--json"]
    said = CliRunner().invoke(app, ["evaluate", "cold-start", *words])
    assert said.exit_code == 0, said.output
    report = json.loads(said.stdout)
    assert report["degraded_pages"] > 0, "the policy's other models are not there"
    items, doctors = report["groups"]
    assert (items["doctors"], doctors["doctors"]) == (10, 2)
    assert items["silent"] == ["cf", "network"], "neither knows an item without an event"
    newest = {s["name"]: s for s in items["systems"]}["newest first"]
    # Half of ten doctors want the newest, the others the second newest of two.
    assert newest["ndcg"]["value"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert newest["recall"]["value"] == 1.0
    assert doctors["silent"] == ["cf"], "no history"
    found = {s["name"]: s for s in doctors["systems"]}
    assert set(found) == {"random", "popularity", "recent popularity", "network", "blend"}
    reference = found[doctors["reference"]]
    for system in found.values():
        gap = system["ndcg"]["value"] - reference["ndcg"]["value"]
        assert system["ndcg_gain"]["value"] == pytest.approx(gap)
    assert 0 < report["exposure"]["of_wanted"]["value"] < 1


def test_equal_seeds_give_equal_figures(home: Path) -> None:
    settings = Settings(models=("cf",), bootstrap_samples=10)
    reports = [
        json.loads(cold_start(Dataset.open(home / "dataset"), settings).as_json()) | {"seconds": 0}
        for _ in range(2)
    ]
    assert reports[0] == reports[1]


def test_a_table_for_people(home: Path) -> None:
    words = ["--home", str(home), "--models", "network", "--bootstrap-samples", "10"]
    said = CliRunner().invoke(app, ["evaluate", "cold-start", *words])
    assert "new items: 10 doctors" in said.stdout
    assert "no opinion: network" in said.stdout
    assert "of the blend's first ten" in said.stdout.replace("\n", " ")


def test_mistakes_are_said_before_the_work(home: Path, tmp_path: Path) -> None:
    for words, why in (
        (["--models", "oracle"], "unknown model"),
        (["--policy", str(tmp_path / "none.toml")], "does not exist"),
    ):
        said = CliRunner().invoke(app, ["evaluate", "cold-start", "--home", str(home), *words])
        assert said.exit_code == 1
        assert why in said.output
