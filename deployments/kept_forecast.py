"""The forecast of all campaigns, solved once a pacing step, however often it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from recmesh.deployments.campaign_delivery import expected_delivery
from recmesh.deployments.campaign_traffic import CampaignTraffic
from recmesh.deployments.current_campaigns import CampaignTerms
from recmesh.orchestrator.campaigns.pacing import Float64
from recmesh.storage.campaign_ledger import CampaignCounts, SavedPrice


class KeptForecast:
    """Any thread may ask; those that ask together wait for one answer."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._for: tuple[CampaignTerms, CampaignTraffic, int] | None = None
        self._answer: Float64 | None = None

    def of(
        self,
        terms: CampaignTerms,
        counts: Mapping[str, CampaignCounts],
        saved: Sequence[SavedPrice],
        traffic: CampaignTraffic,
        now_unix_s: float,
    ) -> Float64:
        """Share of the budget that each campaign will have had ``[campaigns]``.

        Solved anew after a step of the pacer, and where campaigns, policy or traffic changed.
        """
        step_ms = max((price.at_ms for price in saved), default=0)
        with self._turn:
            kept = self._for
            if (
                self._answer is None
                or kept is None
                or kept[0] is not terms
                or kept[1] is not traffic
                or kept[2] != step_ms
            ):
                self._answer = expected_delivery(terms, counts, saved, traffic, now_unix_s)
                self._for = terms, traffic, step_ms
            return self._answer
