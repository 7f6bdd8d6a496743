"""Chooses a recorded page again, by the rules it was chosen by or by others.

Filtering, blending and selecting are the online stages themselves, given what the record holds
instead of what a mesh knows. What models, index and ledger said is not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recmesh.orchestrator.blending import Blended, blend
from recmesh.orchestrator.campaigns.campaign_ledger import Hold, HoldAttempt, WantedSlot
from recmesh.orchestrator.campaigns.sponsored_slate import SponsoredSlate, sponsored_slate
from recmesh.orchestrator.decisions.decision import Considered, Decision
from recmesh.orchestrator.eligibility import FREQUENCY_CAP, NOTHING, filter_candidates
from recmesh.orchestrator.policy import Policy, SurfacePolicy
from recmesh.orchestrator.slate.candidates import Int32, SlateCandidates
from recmesh.orchestrator.slate.request_columns import slate_candidates
from recmesh.storage.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Replayed:
    """A page that was chosen again."""

    considered: Considered
    rows: Int32
    """Catalog rows of the candidates that were kept ``[n]``."""
    blended: Blended
    columns: SlateCandidates
    slate: SponsoredSlate
    kept_the_same: bool
    """Whether filtering kept the candidates that the record says."""

    @property
    def page(self) -> Int32:
        """Positions among the kept of this page's slots."""
        return self.slate.chosen[self.considered.request.offset :]

    @property
    def item_ids(self) -> list[str]:
        """Of this page's slots, first slot first."""
        ids = self.considered.request.catalog.item_ids
        return [ids[row] for row in self.rows[self.page].tolist()]


class RecordedHolder:
    """Says of sponsored slots what the ledger said.

    Asked for the slots of an attempt, in their order, it answers as it did; a slot that was never
    asked for is held, for nobody knows better.
    """

    def __init__(self, attempts: Sequence[HoldAttempt]) -> None:
        self._left = list(attempts)
        self._known: dict[WantedSlot, Hold] = {}
        for attempt in attempts:
            self._known.update(zip(attempt.wanted, attempt.holds or (), strict=False))

    async def __call__(
        self, wanted: Sequence[WantedSlot], slate: SponsoredSlate
    ) -> list[Hold] | None:
        """See :class:`~recmesh.orchestrator.campaigns.sponsored_slate.SlotHolder`."""
        if self._left and list(self._left[0].wanted) == list(wanted):
            answered = self._left.pop(0).holds
            return None if answered is None else list(answered)
        return [self._known.get(slot, Hold.HELD) for slot in wanted]


def blended_columns(considered: Considered) -> tuple[Int32, Blended, SlateCandidates]:
    """Catalog rows of the kept ``[n]``, what they are worth, and the slate solver's columns."""
    request, offers = considered.request, considered.offers
    rows = considered.candidates.rows[considered.filtered.kept]
    blended = blend(request, rows, considered.scores, offers)
    return rows, blended, slate_candidates(request, rows, blended.utility, offers)


async def replay(decision: Decision) -> Replayed:
    """Chooses the page again as it was chosen.

    On the release that recorded it the slate is the same bit for bit: :func:`differences` says.
    """
    considered = decision.considered
    request = considered.request
    filtered = filter_candidates(
        request.catalog,
        considered.candidates.rows,
        request.message,
        request.user,
        request.now_unix_s,
        hide_seen=request.surface.hide_seen,
        capped=considered.filtered.removed.get(FREQUENCY_CAP, NOTHING),
    )
    rows, blended, columns = blended_columns(considered)
    holder = RecordedHolder(decision.attempts)
    slate = await sponsored_slate(
        request, columns, blended.organic, rows, considered.offers, holder
    )
    same = np.array_equal(filtered.kept, considered.filtered.kept)
    return Replayed(considered, rows, blended, columns, slate, same)


def differences(recorded: SponsoredSlate, replayed: Replayed) -> list[str]:
    """What of a page that was replayed by its own policy is not as recorded; empty: nothing."""
    slate = replayed.slate
    same = {
        "what filtering kept": replayed.kept_the_same,
        "the slate": np.array_equal(recorded.chosen, slate.chosen),
        "who pays": np.array_equal(recorded.paid_by, slate.paid_by),
        "whom campaigns' limits kept out": np.array_equal(recorded.refused, slate.refused),
        "propensities": np.array_equal(recorded.propensity, slate.propensity),
        "what chance cost": np.array_equal(recorded.chance_loss, slate.chance_loss),
        "relaxed rules": recorded.relaxed == slate.relaxed,
        "what campaigns cost": recorded.organic_loss == slate.organic_loss,
    }
    return [what for what, is_same in same.items() if not is_same]


def under(decision: Decision, policy: Policy) -> Decision:
    """The decision with another policy's rules, to be replayed.

    The candidates and their scores stay: what other sources would have found, and what models
    that were not asked would have said, the record cannot know.

    Raises:
        InvalidRequestError: the policy does not have the surface.
    """
    request = decision.considered.request
    surface = policy.surfaces.get(request.message.surface)
    if surface is None:
        raise InvalidRequestError(
            "policy", f"{policy.version} has no surface {request.message.surface}"
        )
    preferences = dict(request.message.objective_preferences)
    surface = surface.at(preferences)
    other = replace(
        request,
        surface=_as_card(surface, request.surface) if request.card else surface,
        preferences={} if surface.front else preferences,
    )
    return replace(decision, considered=replace(decision.considered, request=other))


def unasked(decision: Decision) -> list[str]:
    """Models that the request's surface weighs, of which the record has no opinion."""
    considered = decision.considered
    weights = considered.request.surface.model_weights
    known = considered.scores.of_request.scorers
    return sorted(name for name, weight in weights.items() if weight > 0 and name not in known)


def _as_card(surface: SurfacePolicy, recorded: SurfacePolicy) -> SurfacePolicy:
    """Another policy's rules for one card: what the session made of them, it keeps."""
    slate = surface.slate.model_copy(
        update={
            "sponsored_share": recorded.slate.sponsored_share,
            "exploration_slots": recorded.slate.exploration_slots,
        }
    )
    return surface.model_copy(
        update={"slate": slate, "pins": recorded.pins, "campaigns": recorded.campaigns}
    )
