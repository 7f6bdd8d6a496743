"""What a rehearsal of campaigns found, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from recmesh.offline.evaluation.bootstrap import Interval


@dataclass(frozen=True, slots=True)
class CampaignCourse:
    """How one campaign went."""

    campaign_id: str
    feasible: bool
    """Whether its reach has room for it, beside all others."""
    bought: int
    confirmed: int
    starts_at: str
    ends_at: str
    cap_per_day: int
    most_in_a_day: int
    """Impressions that one doctor had of it in 24 hours, at most."""
    foreseen: float
    """Share of what was bought that the forecast of its first evening expected, in [0, 1]."""
    highest_price: float
    by_day: tuple[int, ...]
    """Confirmed after every day."""

    @property
    def delivered(self) -> float:
        """Share of what was bought."""
        return self.confirmed / self.bought


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """What a rehearsal found."""

    policy: str
    start: str
    days: int
    seed: int
    outage: tuple[str, ...]
    pages: int
    sponsored_pages: int
    sponsored_share: float
    """Of all slots, in [0, 1]."""
    organic_loss: Interval
    """Share of nDCG@10, by the ground truth, that campaigns cost over all pages."""
    organic_loss_of_sponsored: Interval
    """The same over the pages with a sponsored slot."""
    most_organic_loss: float
    """The policy's bound."""
    degraded_pages: int
    ledger_faults: int
    """Counts of the ledger that differ from the event log."""
    campaigns: tuple[CampaignCourse, ...]
    seconds: float

    def as_json(self) -> str:
        """The whole report; numbers unrounded."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)
