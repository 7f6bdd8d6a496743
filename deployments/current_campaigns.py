"""The campaigns as they are now, and what the policy allows them, for who keeps the ledger."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook, Int64
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.catalog_log import CatalogLog
from recmesh.storage.catalog_overlay import CatalogOverlay
from recmesh.storage.catalog_tables import SCHEMAS
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.interchange import CAMPAIGNS

COLUMNS = {"campaigns": SCHEMAS["campaigns"].columns.names}


@dataclass(frozen=True)
class CampaignTerms:
    """All campaigns, and what the policy that serves says of them."""

    book: CampaignBook
    caps_per_day: Int64
    """Impressions a user may get of each in 24 hours ``[campaigns]``."""
    largest_price: float
    """The bound of prices: that of the surface which allows most."""
    page_size: int
    """Of the surface that has most room for sponsored slots."""
    sponsored_per_page: int
    """Sponsored slots of such a page at most."""

    @classmethod
    def of(cls, book: CampaignBook, policy: Policy) -> CampaignTerms:
        """Surfaces that show doctors, or no sponsored slots, have no say."""
        paid = [
            surface
            for surface in policy.surfaces.values()
            if surface.universe == "items" and surface.slate.sponsored_share > 0
        ]
        rooms = [(int(s.slate.sponsored_share * s.page_size + 1e-9), s.page_size) for s in paid]
        room, page_size = max(rooms, default=(0, 1))
        return cls(
            book,
            book.caps_per_day(policy.frequency_cap_per_day),
            max((s.campaigns.largest_price for s in paid), default=0.0),
            page_size,
            room,
        )


class CurrentCampaigns:
    """Follows ingested data, writes and policy. Calls block: make them in a thread."""

    def __init__(self, home: Home, catalog: CatalogLog, policy: Path) -> None:
        """``policy``: file that serves while none is promoted."""
        self._home = home
        self._catalog = catalog
        self._configured = policy
        self._policies = PolicyStore(home.policies)
        self._turn = threading.Lock()
        self._file: Path | None = None
        self._seq = 0
        self._live: str | None = None
        self._book: CampaignBook | None = None
        self.terms: CampaignTerms | None = None
        """None before the first look."""

    def look(self) -> CampaignTerms:
        """The campaigns of now; reads them only where something changed.

        Raises:
            RecMeshError: data set, database or policy cannot be read; the terms stay.
        """
        with self._turn:
            book, live = self._current_book(), self._policies.live()
            if self.terms is None or book is not self.terms.book or live != self._live:
                policy = self._policies.resolve(live, self._configured)
                self.terms, self._live = CampaignTerms.of(book, policy), live
            return self.terms

    def _current_book(self) -> CampaignBook:
        dataset = Dataset.open_or_empty(self._home.dataset)
        file = dataset.files.get(CAMPAIGNS.name)
        changes = self._catalog.read(self._seq, columns=COLUMNS)
        changed = file != self._file or changes.tables[CAMPAIGNS.name].num_rows
        if self._book is None or changed:
            overlay = CatalogOverlay(self._catalog.read(columns=COLUMNS))
            self._book = CampaignBook.of(dataset.under(overlay).campaigns)
        self._file, self._seq = file, changes.through_seq
        return self._book
