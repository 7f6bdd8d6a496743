"""Which slots may be sponsored: a largest share and a smallest distance. Never relaxed."""

from __future__ import annotations

import numpy as np

from recmesh.orchestrator.slate.candidates import Bool, SlateCandidates
from recmesh.orchestrator.slate.caps import CodeCap
from recmesh.orchestrator.slate.rules import SlateRules

CAMPAIGN_ROOM = "campaign_room"
"""Names what a campaign's budget and frequency cap leave it on a page."""


class SponsoredSlots:
    """Where sponsored candidates stand, and who may have the next slot.

    The share holds for the first ``m`` slots, whatever ``m`` is: a user who stops early, or a
    page that ends early, has not seen more.
    """

    def __init__(self, candidates: SlateCandidates, rules: SlateRules, horizon: int) -> None:
        """``horizon`` is the last slot that will ever be asked for."""
        n = len(candidates)
        sponsored = candidates.sponsored
        self.sponsored: Bool = np.zeros(n, bool) if sponsored is None else sponsored
        """``[n]``"""
        self._any = bool(self.sponsored.any())
        self._spacing = rules.sponsored_spacing
        # A share such as 0.3 of 10 slots is 3 in spite of rounding.
        self._quota = [int(rules.sponsored_share * m + 1e-9) for m in range(1, horizon + 1)]
        self._left = self._quota.copy()
        self._stands = [False] * horizon
        self._caps: list[CodeCap] = []
        self._names: list[str] = []
        self._over: Bool | None = None
        if candidates.sponsor is not None:
            codes = np.where(self.sponsored, candidates.sponsor, 0)
            if rules.max_per_sponsor is not None:
                self._caps.append(CodeCap(codes, rules.max_per_sponsor, candidates.sponsor_dealt))
                self._names.append("max_per_sponsor")
            if rules.max_per_sponsor_recently is not None:
                self._caps.append(
                    CodeCap(codes, rules.max_per_sponsor_recently, candidates.sponsor_shown)
                )
                self._names.append("max_per_sponsor_recently")
        if candidates.campaign is not None and candidates.campaign_room is not None:
            codes = np.where(self.sponsored, candidates.campaign, 0)
            self._caps.append(CodeCap(codes, 0, -candidates.campaign_room))
            self._names.append(CAMPAIGN_ROOM)
        self._add_up()

    def _add_up(self) -> None:
        if self._caps:
            self._over = np.logical_or.reduce([cap.over for cap in self._caps])

    def _is_near(self, slot: int) -> bool:
        return any(self._stands[max(0, slot - 1 - self._spacing) : slot + self._spacing])

    def _has_room(self, slot: int) -> bool:
        return not self._is_near(slot) and min(self._left[slot - 1 :]) >= 1

    def _stand(self, slot: int, stands: bool) -> None:
        self._stands[slot - 1] = stands
        for later in range(slot - 1, len(self._left)):
            self._left[later] -= 1 if stands else -1

    def kept_out(self, slot: int) -> Bool | None:
        """Who may not have this slot ``[n]``; None: everybody may."""
        if not self._any:
            return None
        if not self._has_room(slot):
            return self.sponsored
        return self._over

    def keeps_out(self, i: int, slot: int) -> str:
        """The rule by which candidate ``i`` may not have this slot; empty: it may."""
        if not self.sponsored[i]:
            return ""
        if self._is_near(slot):
            return "sponsored_spacing"
        if not self._has_room(slot):
            return "sponsored_share"
        over = zip(self._names, self._caps, strict=True)
        return next((name for name, cap in over if cap.over[i]), "")

    def may_have(self, i: int, slot: int) -> bool:
        """Whether candidate ``i`` may have this slot."""
        kept_out = self.kept_out(slot)
        return kept_out is None or not kept_out[i]

    def take(self, i: int, slot: int) -> None:
        """Candidate ``i`` has the slot."""
        if self.sponsored[i]:
            self._stand(slot, True)
            for cap in self._caps:
                cap.take(i)
            self._add_up()

    def move(self, i: int, slot: int, to: int) -> bool:
        """Gives ``i`` an earlier slot than it had, if it may have that."""
        if self.sponsored[i]:
            self._stand(slot, False)
            if not self._has_room(to):
                return False
            self._stand(to, True)
        return True

    def most(self, slots: int) -> int:
        """No more of the first ``slots`` can be sponsored."""
        if not slots:
            return 0
        return min(self._quota[slots - 1], -(-slots // (self._spacing + 1)))
