"""Snapshots that follow what callers write: each is the one before plus the changes."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.catalog import (
    Float32,
    content_catalog,
    doctor_catalog,
    in_degree,
    recent_popularity,
)
from recmesh.orchestrator.live_catalog import LiveCatalog
from recmesh.orchestrator.mesh import Snapshot
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.user_store import UserProfile
from recmesh.storage.catalog_overlay import DELETED, CatalogChanges
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.erased_users import ErasedUsers
from recmesh.storage.interchange import CAMPAIGNS, EDGES

FOLLOWED: dict[str, tuple[str, ...]] = {
    "items": (
        "item_id",
        "content_type",
        "title",
        "topics",
        "specialties",
        "language",
        "countries",
        "authors",
        "published_at",
        "expires_at",
        "sponsor",
        "off_label_countries",
    ),
    "users": (
        "user_id",
        "specialties",
        "country",
        "language",
        "consents_personalisation",
        "consents_sponsored",
    ),
    "edges": ("source_user_id", "target_user_id", "edge_type"),
    "campaigns": tuple(CAMPAIGNS.columns.names),
}
"""Columns of the log that a snapshot is made of."""


def _split(changed: pa.Table, key: str) -> tuple[pa.Table, list[str]]:
    """Rows that are there now, and keys of those that are not."""
    deleted = changed[DELETED]
    return changed.filter(pc.invert(deleted)), changed.filter(deleted)[key].to_pylist()


class LiveSnapshot:
    """Makes the next snapshot. Takes milliseconds, so work in a thread; one at a time."""

    def __init__(
        self, dataset: Dataset, policy: Policy, embedding: EmbeddingVersion | None
    ) -> None:
        """``dataset`` is what was ingested."""
        self._dataset = dataset
        self._half_life_days = policy.popularity_half_life_days
        self.current = replace(Snapshot.of(dataset, policy, embedding), catalog_seq=None)
        self.current.items.prepare()
        self.current.users.prepare()
        self._items = LiveCatalog(self.current.items)
        self._users = LiveCatalog(self.current.users)
        self._ingested_users = self.current.user_store
        self._profiles: dict[str, UserProfile] = {}
        self._new_edges: set[tuple[str, str, str]] = set()
        self._campaigns = dataset.campaigns
        self._book = self.current.campaigns
        self._erased = ErasedUsers()

    @property
    def ingested_user_ids(self) -> list[str]:
        """Everybody whom the data set names."""
        return self._ingested_users.user_ids

    def apply(self, changes: CatalogChanges) -> Snapshot:
        """The snapshot after these changes, which must follow those given before."""
        version = f"{self._dataset.version}+{changes.through_seq}"
        self._take_items(version, changes.tables["items"])
        self._take_users(version, changes)
        self._take_edges(version, changes.tables["edges"])
        self._take_campaigns(changes.tables["campaigns"])
        snapshot = replace(
            self.current,
            items=self._items.current,
            users=self._users.current,
            campaigns=self._book,
            catalog_seq=changes.through_seq,
        )
        if (
            changes.tables["users"].num_rows
            or changes.tables["edges"].num_rows
            or (changes.erased.hashes)
        ):
            ties: dict[str, list[str]] = {}
            for source, target, _ in sorted(self._new_edges):
                ties.setdefault(source, []).append(target)
            store = self._ingested_users.with_written(dict(self._profiles), ties, self._erased)
            snapshot = replace(snapshot, user_store=store)
        _ = snapshot.paid_rows
        self.current = snapshot
        return snapshot

    def _take_items(self, version: str, changed: pa.Table) -> None:
        if changed.num_rows:
            rows, gone = _split(changed, "item_id")
            popularity = recent_popularity(
                self._dataset.events, rows["item_id"].to_pylist(), self._half_life_days
            )
            self._items.apply(version, content_catalog(version, rows, popularity), gone)

    def _take_users(self, version: str, changes: CatalogChanges) -> None:
        changed, erased = changes.tables["users"], changes.erased
        if not changed.num_rows and not erased.hashes:
            return
        rows, gone = _split(changed, "user_id")
        if erased.hashes:
            self._erased = ErasedUsers(erased.salt, self._erased.hashes | erased.hashes)
            gone += erased.among(self._users.current.item_ids)
            self._profiles = {u: p for u, p in self._profiles.items() if u not in erased}
            self._new_edges = {edge for edge in self._new_edges if not erased.among(edge[:2])}
        popularity = self._tied(rows["user_id"].to_pylist())
        self._users.apply(version, doctor_catalog(version, rows, popularity), gone)
        for user_id in gone:
            self._profiles.pop(user_id, None)
        for row in rows.to_pylist():
            self._profiles[row["user_id"]] = UserProfile(
                user_id=row["user_id"],
                known=True,
                specialties=tuple(row["specialties"]),
                country=row["country"],
                language=row["language"],
                consents_personalisation=row["consents_personalisation"],
                consents_sponsored=row["consents_sponsored"],
            )

    def _take_edges(self, version: str, changed: pa.Table) -> None:
        """Edges that were ingested are known already, whatever their weight is now."""
        if not changed.num_rows:
            return
        ingested = EDGES.keys_of(self._dataset.edges)
        fresh = changed.filter(pc.invert(pc.is_in(EDGES.keys_of(changed), value_set=ingested)))
        rows = fresh.select(EDGES.key).to_pylist()
        edges = {tuple(row[name] for name in EDGES.key) for row in rows}
        self._new_edges |= edges
        targets = sorted({edge[1] for edge in edges})
        popularity = dict(zip(targets, self._tied(targets).tolist(), strict=True))
        self._users.with_popularity(version, popularity)

    def _take_campaigns(self, changed: pa.Table) -> None:
        if not changed.num_rows:
            return
        rows, _ = _split(changed, "campaign_id")
        ids = self._campaigns["campaign_id"]
        kept = self._campaigns.filter(
            pc.invert(pc.is_in(ids, value_set=changed["campaign_id"].combine_chunks()))
        )
        written = rows.select(CAMPAIGNS.columns.names).cast(CAMPAIGNS.columns)
        self._campaigns = pa.concat_tables([kept, written])
        self._book = CampaignBook.of(self._campaigns)

    def _tied(self, user_ids: list[str]) -> Float32:
        """How many edges lead to each user ``[len(user_ids)]``."""
        found = in_degree(self._dataset.edges, user_ids)
        place = {user_id: i for i, user_id in enumerate(user_ids)}
        for _, target, _ in self._new_edges:
            if target in place:
                found[place[target]] += 1
        return found
