from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.models.cf.als import als_scores, fit_als
from recmesh.models.interactions import Interactions, event_weights, read_interactions, standardised
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import EVENTS

DAY_S = 86_400


def read(folder: Path, rows: list[tuple[str, str, str, int]], until_day: int) -> Interactions:
    events = [
        {"event_id": str(i), "user_id": user, "item_id": item, "event_type": kind}
        | {"time": datetime.fromtimestamp(day * DAY_S, UTC)}
        for i, (user, item, kind, day) in enumerate(rows)
    ]
    file = folder / "events.parquet"
    pq.write_table(pa.Table.from_pylist(events, schema=EVENTS.columns), file)
    until = datetime.fromtimestamp(until_day * DAY_S, UTC)
    return read_interactions(Dataset("v", {"events": file}), until)


def test_only_positive_events_on_items_before_until(tmp_path: Path) -> None:
    rows = [
        ("u", "a", "click", 1),
        ("u", "b", "dismiss", 1),
        ("u", "", "follow", 1),
        ("v", "b", "save", 2),
        ("v", "a", "click", 3),
    ]
    found = read(tmp_path, rows, until_day=3)
    assert (found.user_ids, found.item_ids) == (["u", "v"], ["a", "b"])
    np.testing.assert_array_equal(found.times_unix_s, [DAY_S, 2 * DAY_S])
    np.testing.assert_array_equal(found.event_types, [2, 4])


def test_a_cell_is_its_strongest_event_and_a_split_is_by_time(tmp_path: Path) -> None:
    rows = [("u", "a", "click", day) for day in (1, 2, 3)] + [("u", "b", "click", 4)]
    found = read(tmp_path, rows, until_day=9)
    matrix = found.matrix(np.array([1, 5, 2, 3], np.float32))
    np.testing.assert_array_equal(matrix.toarray(), [[5, 3]])
    early, late = found.split(0.25)
    assert (len(early), len(late)) == (3, 1)


def test_weights_halve_every_half_life_and_negative_events_weigh_nothing() -> None:
    kinds, times = np.array([2, 2, 6]), np.array([10, 0, 10]) * DAY_S
    weights = event_weights(kinds, times, 10 * DAY_S, {"click": 3.0}, 10.0)
    np.testing.assert_allclose(weights, [3.0, 1.5, 0.0])
    assert standardised(np.ones(3, np.float32)).tolist() == [0, 0, 0]


def test_als_folds_a_new_user_in_by_taste(tmp_path: Path) -> None:
    rows = [
        (f"u{user}", f"{'ab'[user % 2]}{item}", "click", 1)
        for user in range(24)
        for item in range(8)
        if item != user % 8
    ]
    found = read(tmp_path, rows, until_day=2)
    factors = fit_als(found.matrix(np.ones(len(found), np.float32)), 2, 0.05, 40.0, seed=0)
    one = np.ones(1, np.float32)
    scores = als_scores(factors, factors.T @ factors, np.array([0]), one, 0.05, 40.0)
    assert scores[:8].min() > scores[8:].max()
