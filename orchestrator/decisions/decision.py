"""A page as it was decided: all it was chosen from, and what was chosen."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from recmesh.orchestrator.campaigns.campaign_ledger import HoldAttempt
from recmesh.orchestrator.campaigns.offers import Offers
from recmesh.orchestrator.campaigns.sponsored_slate import SponsoredSlate
from recmesh.orchestrator.eligibility import Filtered
from recmesh.orchestrator.page_request import PageRequest
from recmesh.orchestrator.retrieval import Candidates
from recmesh.orchestrator.scoring import Scores
from recmesh.v1 import recommendation_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What a page is chosen from. Filtering, blending and selecting read nothing else."""

    request: PageRequest
    candidates: Candidates
    filtered: Filtered
    scores: Scores
    """Of ``filtered.kept``."""
    offers: Offers
    decision_id: bytes = field(default_factory=lambda: os.urandom(16))
    made_at_unix_ms: int = field(default_factory=lambda: int(1000 * time.time()))


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen, and from what."""

    considered: Considered
    attempts: Sequence[HoldAttempt]
    """What was asked of the ledger of sponsored slots, in order."""
    slate: SponsoredSlate
    answer: recommendation_pb2.RecommendResponse
    """Its versions, sources and degradations are recorded; its slots are the slate's."""


def latest_pages(decisions: Sequence[Decision]) -> list[Decision]:
    """Of each page of a request the decision that was made last, first page first.

    Where two arms picked slots in turn, the page that each picked from.

    Args:
        decisions: of one request, in the order in which they were made. A caller that asks again
            under the same id has it decided again.
    """
    by_page = {
        (one.considered.request.offset, one.considered.request.drafted_for): one
        for one in decisions
    }
    return [by_page[page] for page in sorted(by_page)]
