"""What checks look at: shown slots, pages, doctors, items, campaigns and assignments, columnar.

Rows point into each other: a slot has the row of its doctor, its item and its campaign. Adapters
make it of recorded events alone (:mod:`recmesh.offline.diagnosis.event_source`); what only decision
records know (pages as they were answered, scores) is absent then, and checks that need it say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

NOTHING = -1
"""Row of what there is none of."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class Doctors:
    """Who was served; rows correspond."""

    user_ids: list[str]
    specialty: Int64
    """Main one, a row of ``specialty_names``; :data:`NOTHING`: unknown."""
    country: Int64
    """A row of ``country_names``; :data:`NOTHING`: unknown."""
    specialty_names: list[str]
    country_names: list[str]
    history: sparse.csr_matrix
    """Items that each turned to before the period, as ones ``[doctors, items]``."""

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True)
class Items:
    """What could be shown; rows correspond."""

    item_ids: list[str]
    topics: sparse.csr_matrix
    """As ones ``[items, topics]``."""
    specialties: sparse.csr_matrix
    """As ones ``[items, specialties]``, by rows of the doctors' ``specialty_names``."""
    published_unix_s: Int64
    """0: unknown."""
    expires_unix_s: Int64
    vectors: Float32 | None = None
    """Embeddings ``[items, dim]`` of one space; None: not known."""

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class Slots:
    """Content that was shown, one row a slot, by ascending time."""

    doctor: Int64
    item: Int64
    unix_s: Float64
    surface: Int64
    rank: Int64
    """From 1; 0: unknown."""
    clicked: Bool
    """Whether the doctor turned to it there: clicked, dwelt, saved, shared or swiped."""
    campaign: Int64
    """:data:`NOTHING`: nobody paid."""
    scores: Float32
    """Calibrated scores ``[slots, scorers]`` in [0, 1]; NaN: no opinion, or not recorded."""

    def __len__(self) -> int:
        return len(self.doctor)


@dataclass(frozen=True)
class Traffic:
    """Impressions since the first of the period's campaigns began, by ascending time."""

    doctor: Int64
    unix_s: Float64
    campaign: Int64
    """:data:`NOTHING`: nobody paid."""

    def __len__(self) -> int:
        return len(self.doctor)


@dataclass(frozen=True)
class Pages:
    """Pages as they were answered, one row each, by ascending time."""

    doctor: Int64
    unix_s: Float64
    surface: Int64
    requested: Int64
    """Slots that were to be filled; 0: as many as there are, such as what a caller left over."""
    filled: Int64
    candidates: Int64
    """Candidates after filtering."""
    degraded: Bool
    """Which sources the page had to do without ``[pages, sources]``."""
    offered_diversity: Float64
    """Chance that two candidates share no topic, in [0, 1]; NaN: not known."""

    def __len__(self) -> int:
        return len(self.doctor)


@dataclass(frozen=True)
class Assignment:
    """Doctors of an experiment that were seen during the period."""

    experiment: str
    shares: dict[str, float]
    """Of every arm, summing to 1."""
    arm: Int64
    """A row of ``shares``, one entry a doctor."""
    doctor: Int64


@dataclass(frozen=True)
class ServingLog:
    """A period of serving."""

    start_unix_s: float
    end_unix_s: float
    surfaces: list[str]
    asked: Bool
    """Surfaces where a query is asked ``[surfaces]``: what they show is the query's choice."""
    doctors: Doctors
    items: Items
    slots: Slots
    campaigns: CampaignBook
    traffic: Traffic
    scorers: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    pages: Pages | None = None
    """None: no decision record was read."""
    assignments: tuple[Assignment, ...] = ()
    sponsored_share: float = 0.2
    """The largest share of sponsored slots that the policy allows."""

    @property
    def middle_unix_s(self) -> float:
        """Where the period's second half begins."""
        return (self.start_unix_s + self.end_unix_s) / 2

    @property
    def days(self) -> float:
        """Length of the period."""
        return (self.end_unix_s - self.start_unix_s) / DAY_S

    @cached_property
    def browsed(self) -> Bool:
        """Slots on surfaces without a query, that nobody paid for ``[slots]``."""
        slots = self.slots
        return np.asarray(~self.asked[slots.surface] & (slots.campaign == NOTHING), np.bool_)

    @cached_property
    def attention(self) -> Float64:
        """Exposure of each slot, 1 / log₂(1 + rank) (Singh & Joachims 2018) ``[slots]``.

        A slot of unknown rank has that of the first.
        """
        return np.asarray(1.0 / np.log2(1.0 + np.maximum(self.slots.rank, 1)), np.float64)
