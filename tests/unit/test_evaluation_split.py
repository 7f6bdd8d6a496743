from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmesh.models.interactions import read_interactions
from recmesh.offline.evaluation.period import period
from recmesh.offline.evaluation.temporal_split import EarlierDataset, TemporalSplit
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from tests.small_world import NOW_UNIX_S, write_table

ITEMS = [f"i{n}" for n in range(8)]


def dataset(folder: Path, events: list[tuple[int, int, int]]) -> Dataset:
    """Events as (user, item, hours after the start), and edges made when users act."""
    rows = [
        {
            "event_id": f"e{n}",
            "user_id": f"u{user}",
            "item_id": ITEMS[item],
            "event_type": "click",
            "time": datetime.fromtimestamp(NOW_UNIX_S + 3600 * hour, UTC),
        }
        for n, (user, item, hour) in enumerate(sorted(events, key=lambda event: event[2]))
    ]
    users = {row["user_id"] for row in rows}
    tables = {
        "items": [{"item_id": i, "content_type": "case", "title": i} for i in ITEMS],
        "users": [{"user_id": u, "consents_personalisation": u != "u1"} for u in sorted(users)],
        "events": rows,
        "edges": [
            {
                "source_user_id": row["user_id"],
                "target_user_id": f"friend-{n}",
                "edge_type": "follow",
                "created_at": row["time"],
            }
            for n, row in enumerate(rows)
        ],
    }
    return Dataset("v", {name: write_table(folder, name, rows) for name, rows in tables.items()})


histories = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(0, 60)), min_size=10, max_size=40
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(histories)
def test_nothing_at_or_after_a_moment_is_known_before_it(tmp_path: Path, events) -> None:
    data = dataset(tmp_path, events)
    try:
        split = TemporalSplit.of(data)
        periods = [
            period(data, split.validation_start, split.test_start),
            period(data, split.test_start, split.end),
        ]
    except DataError:
        return  # too few moments, or nobody wanted a known item: said, not guessed
    assert split.validation_start < split.test_start < split.end
    everything = read_interactions(data)
    hours = np.array([hour for _, _, hour in events])
    for found in periods:
        moment = int(found.known.moment.timestamp())
        known = read_interactions(found.known)
        assert (known.times_unix_s < moment).all()
        assert (found.past.times_unix_s < moment).all()
        assert len(known) == (NOW_UNIX_S + 3600 * hours < moment).sum()
        made = found.known.edges["created_at"].to_pylist()
        assert all(at < found.known.moment for at in made)
        assert set(found.catalogue) == set(known.item_ids)
        assert not found.wanted.multiply(found.seen).nnz, "what was seen cannot be wanted anew"
        for row, user in enumerate(found.users):
            wanted = {found.catalogue[i] for i in found.wanted[row].indices}
            place = everything.user_ids.index(user)
            late = (everything.users == place) & (everything.times_unix_s >= moment)
            assert wanted <= {everything.item_ids[i] for i in everything.items[late]}


def test_a_period_by_hand(tmp_path: Path) -> None:
    events = [(0, 0, 0), (1, 0, 1), (1, 1, 2), (2, 2, 3)]  # before
    events += [(0, 1, 10), (0, 0, 11), (1, 2, 12), (3, 7, 13), (3, 0, 14), (4, 7, 15)]
    start = datetime.fromtimestamp(NOW_UNIX_S + 3600 * 10, UTC)
    end = datetime.fromtimestamp(NOW_UNIX_S + 3600 * 99, UTC)
    found = period(dataset(tmp_path, events), start, end)
    assert found.catalogue == ["i0", "i1", "i2"]
    assert found.users == ["u0", "u1", "u3"]
    assert found.wanted.toarray().tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert found.wanted_new.tolist() == [0, 0, 1]
    assert found.users_wanting_only_new == 1
    assert found.share_of_new == pytest.approx(2 / 5)
    # u1 has events but does not consent to their use; u3 is new.
    assert found.is_known.tolist() == [True, False, False]


def test_a_data_set_that_cannot_be_split_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one moment"):
        TemporalSplit.of(dataset(tmp_path, [(0, n % 8, 0) for n in range(20)]))
    early = EarlierDataset.of(dataset(tmp_path, [(0, 0, 5)]), datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(DataError, match="no positive event"):
        TemporalSplit.of(early)
