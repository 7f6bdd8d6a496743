"""A catalog of the few items that a record speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from recmesh.orchestrator.catalog import Catalog, Float32


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
