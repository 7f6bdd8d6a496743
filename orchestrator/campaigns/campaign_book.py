"""All campaigns, columnar: who may be reached, when, with what, and for how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmesh.orchestrator.catalog import TermSets
from recmesh.storage.unix_time import NEVER_UNIX_S, UNKNOWN_UNIX_S, unix_s

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Audience:
    """What decides whether a campaign may reach a user. Unknown is no: it fails closed."""

    specialties: Sequence[str] = ()
    country: str = ""
    language: str = ""
    consents_sponsored: bool = False


@dataclass(frozen=True)
class CampaignBook:
    """Campaigns; all arrays have one entry each."""

    campaign_ids: list[str]
    sponsors: list[str]
    disclosures: list[str]
    item_ids: list[list[str]]
    specialties: TermSets
    countries: TermSets
    languages: TermSets
    starts_unix_s: Int64
    ends_unix_s: Int64
    """The first moment after it."""
    budget: Int64
    """Impressions bought."""
    own_cap_per_day: Int64
    """Impressions a user may get in 24 hours; 0: the policy's cap."""
    value: Float32
    """Worth of an impression against those of other campaigns, in [0, 1]."""

    @classmethod
    def of(cls, campaigns: pa.Table) -> CampaignBook:
        """From the interchange format."""
        ordered = campaigns.sort_by("campaign_id")
        return cls(
            campaign_ids=ordered["campaign_id"].to_pylist(),
            sponsors=ordered["sponsor"].to_pylist(),
            disclosures=ordered["disclosure"].to_pylist(),
            item_ids=ordered["item_ids"].to_pylist(),
            specialties=TermSets.of(ordered["specialties"]),
            countries=TermSets.of(ordered["countries"]),
            languages=TermSets.of(ordered["languages"]),
            starts_unix_s=unix_s(ordered["starts_at"], UNKNOWN_UNIX_S),
            ends_unix_s=unix_s(ordered["ends_at"], NEVER_UNIX_S),
            budget=np.array(ordered["budget_impressions"].to_pylist(), np.int64),
            own_cap_per_day=np.array(
                ordered["frequency_cap_per_day"].fill_null(0).to_pylist(), np.int64
            ),
            value=np.array(ordered["value"].fill_null(0.0).to_pylist(), np.float32),
        )

    def __len__(self) -> int:
        return len(self.campaign_ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of every campaign id."""
        return {campaign_id: row for row, campaign_id in enumerate(self.campaign_ids)}

    @cached_property
    def sponsor_code(self) -> Int64:
        """From 1, equal for campaigns of one sponsor ``[n]``."""
        _, codes = np.unique(np.array(self.sponsors, object).astype(str), return_inverse=True)
        return codes.astype(np.int64) + 1

    @cached_property
    def links(self) -> tuple[list[str], Int64]:
        """Every paid item id, and the row of the campaign that pays ``[links]``."""
        ids = [item_id for items in self.item_ids for item_id in items]
        rows = np.repeat(np.arange(len(self)), [len(items) for items in self.item_ids])
        return ids, rows.astype(np.int64)

    def caps_per_day(self, default: int) -> Int64:
        """Impressions a user may get of each in 24 hours ``[n]``; ``default`` is the policy's."""
        return np.where(self.own_cap_per_day > 0, self.own_cap_per_day, default)

    def running(self, now_unix_s: int) -> Bool:
        """Which run at a moment ``[n]``."""
        return (self.starts_unix_s <= now_unix_s) & (now_unix_s < self.ends_unix_s)

    def reaches(self, audience: Audience) -> Bool:
        """Which may reach the user, whatever the time ``[n]``.

        Targeting that names anything is met only by who is known to have it; who does not consent
        to sponsored content is reached by none.
        """
        rows = np.arange(len(self), dtype=np.int32)
        if not audience.consents_sponsored:
            return np.zeros(len(self), bool)
        met = np.ones(len(self), bool)
        for terms, own in (
            (self.specialties, tuple(audience.specialties)),
            (self.countries, (audience.country,)),
            (self.languages, (audience.language,)),
        ):
            met &= terms.empty(rows) | terms.overlaps(rows, own)
        return met
