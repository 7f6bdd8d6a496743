"""A catalog of the few items that a record speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recmesh.orchestrator.catalog import Catalog, Float32, Int32, TermSets


@dataclass(frozen=True)
class RecordedCatalog(Catalog):
    """Some rows of another catalog, with what ranking reads of them.

    Titles, sponsors and off-label countries are left out: no page is chosen by them.
    """

    recorded_novelty: Float32
    """Novelty within the other catalog ``[n_rows]``."""

    @cached_property
    def novelty(self) -> Float32:
        """See :class:`~recmesh.orchestrator.catalog.Catalog`."""
        return self.recorded_novelty

    @classmethod
    def cut(cls, catalog: Catalog, rows: Int32) -> RecordedCatalog:
        """The catalog's ``rows``, in this order."""
        _, authors = np.unique(np.append(catalog.lead_author[rows], 0), return_inverse=True)
        # Only equality counts, and that 0 is nobody; small numbers take less room.
        nobody = authors[-1]
        codes = np.where(authors[:-1] == nobody, 0, authors[:-1] + 1)
        return cls(
            version=catalog.version,
            item_ids=[catalog.item_ids[row] for row in rows.tolist()],
            titles=[],
            content_types=_cut(catalog.content_types, rows),
            topics=_cut(catalog.topics, rows),
            specialties=_cut(catalog.specialties, rows),
            countries=_cut(catalog.countries, rows),
            languages=_cut(catalog.languages, rows),
            off_label=TermSets({}, np.zeros((len(rows), 1), np.uint64)),
            sponsors=[],
            lead_author=codes.astype(np.int64),
            published_unix_s=catalog.published_unix_s[rows],
            expires_unix_s=catalog.expires_unix_s[rows],
            popularity=catalog.popularity[rows],
            recorded_novelty=catalog.novelty[rows],
        )


def _cut(terms: TermSets, rows: Int32) -> TermSets:
    return TermSets(terms.vocabulary, terms.bits[rows])
