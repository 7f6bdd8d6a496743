"""Following changes one after another leads where building everything anew leads."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.orchestrator.catalog import Catalog, TermSets
from recmesh.orchestrator.live_snapshot import FOLLOWED, LiveSnapshot
from recmesh.orchestrator.mesh import Snapshot
from recmesh.orchestrator.policy import Policy
from recmesh.storage.catalog_overlay import DELETED, CatalogChanges, CatalogOverlay
from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import ErasedUsers, id_hash
from recmesh.storage.interchange import TABLES
from tests.small_world import dataset, table

SALT = b"salt"
USERS = ("reader", "colleague", "stranger", "newcomer", "another")


class Written:
    """What the log is, in a dictionary: a key's last state and when it changed."""

    def __init__(self) -> None:
        self.seq = 0
        self.rows: dict[str, dict[Any, tuple[int, dict[str, Any] | None]]] = {
            "items": {},
            "users": {},
            "edges": {},
            "campaigns": {},
        }
        self.erased: dict[bytes, int] = {}

    def put(self, name: str, key: Any, row: dict[str, Any] | None) -> None:
        self.seq += 1
        self.rows[name][key] = self.seq, row

    def erase(self, user_id: str) -> None:
        self.seq += 1
        self.erased[id_hash(SALT, user_id)] = self.seq
        self.rows["users"].pop(user_id, None)
        edges = self.rows["edges"]
        self.rows["edges"] = {k: row for k, row in edges.items() if user_id not in k[:2]}

    def after(self, seq: int, *, whole: bool = False) -> CatalogChanges:
        tables = {}
        for name, rows in self.rows.items():
            changed = [(at, key, row) for key, (at, row) in rows.items() if at > seq]
            changed.sort(key=lambda change: change[0])
            keys = TABLES[name].key
            blank = dict.fromkeys(TABLES[name].required, "")
            filled = table(
                name,
                [
                    row or blank | dict(zip(keys, key if len(keys) > 1 else (key,), strict=True))
                    for _, key, row in changed
                ],
            )
            if not whole:
                filled = filled.select(FOLLOWED[name])
            gone = pa.array([row is None for _, _, row in changed], pa.bool_())
            tables[name] = filled.append_column(DELETED, gone)
        erased = frozenset(h for h, at in self.erased.items() if at > seq)
        return CatalogChanges(self.seq, self.seq, tables, ErasedUsers(SALT, erased))


items = st.tuples(
    st.sampled_from([f"i{n}" for n in range(8)] + ["a", "b", "z"]),
    st.one_of(
        st.none(),
        st.fixed_dictionaries(
            {
                "title": st.sampled_from(["x", "y"]),
                "topics": st.lists(st.sampled_from(["t1", "t9", *(f"n{n}" for n in range(70))])),
                "countries": st.lists(st.sampled_from(["DE", "FR"])),
                "off_label_countries": st.lists(st.sampled_from(["DE", "FR"])),
                "sponsor": st.sampled_from(["", "S"]),
                "authors": st.lists(st.sampled_from(["", "A. One", "B. Two"])),
            }
        ),
    ),
)
users = st.tuples(
    st.sampled_from(USERS),
    st.fixed_dictionaries(
        {
            "specialties": st.lists(st.sampled_from(["cardiology", "surgery"]), max_size=2),
            "country": st.sampled_from(["", "DE"]),
            "consents_personalisation": st.booleans(),
        }
    ),
)
edges = st.tuples(st.sampled_from(USERS), st.sampled_from(USERS), st.sampled_from(["follow", "x"]))
campaigns = st.tuples(
    st.sampled_from(["c1", "c2"]),
    st.fixed_dictionaries(
        {
            "sponsor": st.sampled_from(["S", "T"]),
            "item_ids": st.lists(st.sampled_from(["i1", "i7", "a", "unheard-of"]), unique=True),
            "budget_impressions": st.integers(1, 9),
            "starts_at": st.just(datetime(2026, 1, 1, tzinfo=UTC)),
            "ends_at": st.just(datetime(2026, 2, 1, tzinfo=UTC)),
            "disclosure": st.just("Sponsored"),
        }
    ),
)
change = st.one_of(
    campaigns.map(lambda pair: ("campaigns", *pair)),
    items.map(lambda pair: ("items", *pair)),
    users.map(lambda pair: ("users", *pair)),
    edges.map(lambda key: ("edges", key, {})),
)


def terms(sets: TermSets) -> list[set[str]]:
    return [
        {
            term
            for term, code in sets.vocabulary.items()
            if row[code // 64] >> np.uint64(code % 64) & np.uint64(1)
        }
        for row in sets.bits
    ]


def content(catalog: Catalog) -> dict[str, Any]:
    sets = ("content_types", "topics", "specialties", "countries", "languages", "off_label")
    arrays = ("lead_author", "published_unix_s", "expires_unix_s", "popularity", "popular_rows")
    arrays += ("fresh_rows",)
    return {
        "ids": catalog.item_ids,
        "titles": catalog.titles,
        "sponsors": catalog.sponsors,
        "rows": catalog.rows(catalog.item_ids).tolist(),
        **{name: terms(getattr(catalog, name)) for name in sets},
        **{name: getattr(catalog, name).tolist() for name in arrays},
    }


def paid(snapshot: Snapshot) -> list[tuple[str, str, str, int]]:
    """Item, campaign, sponsor and budget of everything that is paid for."""
    book, items = snapshot.campaigns, snapshot.items
    return sorted(
        (items.item_ids[row], book.campaign_ids[at], book.sponsors[at], int(book.budget[at]))
        for row, at in zip(*(column.tolist() for column in snapshot.paid_rows), strict=True)
    )


@pytest.fixture(scope="module")
def ingested() -> Dataset:
    return dataset(Path(tempfile.mkdtemp()), 8)


@settings(max_examples=80, deadline=None)
@given(batches=st.lists(st.lists(change, max_size=6), min_size=1, max_size=4))
def test_changes_one_after_another_are_all_at_once(
    ingested: Dataset, batches: list[list[tuple[str, Any, dict[str, Any] | None]]]
) -> None:
    written, live = Written(), LiveSnapshot(ingested, Policy.load(), None)
    for batch in batches:
        seen = written.seq
        for name, key, row in batch:
            keys = TABLES[name].key
            named = dict(zip(keys, key if len(keys) > 1 else (key,), strict=True))
            written.put(name, key, None if row is None else row | named)
        live.apply(written.after(seen))
    anew = Snapshot.of(
        ingested.under(CatalogOverlay(written.after(0, whole=True))), Policy.load(), None
    )
    now = live.current
    assert content(now.items) == content(anew.items)
    assert content(now.users) == content(anew.users)
    for user_id in (*USERS, "nobody"):
        mine, whole = now.user_store.get(user_id), anew.user_store.get(user_id)
        assert mine == whole
    assert paid(now) == paid(anew)
    assert now.catalog_seq == written.seq


def test_an_erased_user_is_unknown_at_once(ingested: Dataset) -> None:
    written, live = Written(), LiveSnapshot(ingested, Policy.load(), None)
    written.put("users", "newcomer", {"user_id": "newcomer", "country": "DE"})
    key = ("newcomer", "reader", "follow")
    written.put("edges", key, dict(zip(TABLES["edges"].key, key, strict=True)))
    snapshot = live.apply(written.after(0))
    assert snapshot.user_store.get("newcomer").connected_user_ids == ("reader",)
    seen = written.seq
    for user_id in ("newcomer", "colleague"):
        written.erase(user_id)
    snapshot = live.apply(written.after(seen))
    assert snapshot.users.item_ids == ["reader", "stranger"]
    for user_id in ("newcomer", "colleague"):
        assert not snapshot.user_store.get(user_id).known
    assert snapshot.user_store.get("reader").known


def test_a_snapshot_that_was_taken_does_not_change(ingested: Dataset) -> None:
    written, live = Written(), LiveSnapshot(ingested, Policy.load(), None)
    before = live.current
    was = content(before.items)
    written.put("items", "i0", None)
    written.put("items", "i1", {"item_id": "i1", "title": "changed", "topics": ["new"]})
    live.apply(written.after(0))
    assert content(before.items) == was
    assert before.catalog_seq is None
