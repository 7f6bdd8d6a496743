"""A session of cards: one slate that is dealt slot by slot, each chosen after the last action.

Every card is chosen anew by the whole pipeline, as a page with one slot. Nothing is dealt from a
page made earlier: an action changes what every model sees, so all of a page behind its first card
would be stale, and its sponsored slots would be held with the ledger for nobody. What makes a
page of one slot a part of a slate is here: the surface's rules, turned into rules of one card.

**Where the state is.** In the event log, and in memory only while the stream is open. Each answered
card is recorded as an impression whose request id is the session's key and the card's number, and
the action as an event of the user. Every orchestrator follows that log for histories and frequency
caps anyway, so any of them can go on: the cards of a session are the user's impressions under its
key. A session id that carried the cards would grow with each of them, tell in clients' logs who
saw what, and still not make models see the actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from recmesh.orchestrator.live_histories import with_events
from recmesh.orchestrator.policy import SurfacePolicy
from recmesh.orchestrator.recent_impressions import MOST_REMEMBERED, Impression
from recmesh.orchestrator.user_store import HISTORY_LENGTH, UserProfile

MOST_CARDS = MOST_REMEMBERED
"""Cards of a session: as many as another orchestrator can know of."""


@dataclass(frozen=True, slots=True)
class DealtCard:
    """A card that the user had on screen."""

    item_id: str
    campaign_id: str
    """Whose slot it was; empty: nobody's."""


@dataclass(slots=True)
class SwipeSession:
    """The cards and actions of one session. Belongs to one stream."""

    key: str
    """Names the session in request ids and event ids."""
    user_id: str
    dealt: list[DealtCard] = field(default_factory=list)
    """Answered cards, first to last."""
    number: int = 1
    """Of the next card, from 1."""
    actions: deque[tuple[str, int, int]] = field(
        default_factory=lambda: deque(maxlen=HISTORY_LENGTH)
    )
    """Item, number of the event type, and seconds since the Unix epoch, oldest first."""

    @classmethod
    def resumed(cls, key: str, user_id: str, newest_first: Iterable[Impression]) -> SwipeSession:
        """The session as far as the user's impressions tell it."""
        numbers: dict[int, DealtCard] = {}
        for shown in newest_first:
            of, _, number = shown.request_id.rpartition(".")
            # Callers choose request ids of pages: what is no number is none of ours.
            if of == key and number.isdecimal():
                numbers[int(number)] = DealtCard(shown.item_id, shown.campaign_id)
        dealt = [numbers[number] for number in sorted(numbers)]
        return cls(key, user_id, dealt, max(numbers, default=0) + 1)

    @property
    def request_id(self) -> str:
        """Of the page that is the next card."""
        return f"{self.key}.{self.number}"

    @property
    def full(self) -> bool:
        """Whether there are no further cards."""
        return len(self.dealt) >= MOST_CARDS

    def answered(self, card: DealtCard, event_type: int, now_unix_s: int, *, shapes: bool) -> None:
        """The user acted on the open card; the next one is another.

        Args:
            card: that was open.
            event_type: number of the event type.
            now_unix_s: when.
            shapes: whether models are shown events of this type.
        """
        self.dealt.append(card)
        self.number += 1
        if shapes:
            self.actions.append((card.item_id, event_type, now_unix_s))

    def added_to(self, profile: UserProfile, *, erased: bool) -> UserProfile:
        """The profile with those of the session's actions that it does not hold yet.

        The same actions come back by way of the event log, a moment later.
        """
        if not self.actions:
            return profile
        known = set(zip(profile.history_item_ids, profile.history_event_types, strict=True))
        news = [action for action in self.actions if action[:2] not in known]
        return with_events(profile, news, erased=erased)

    def counted(self, surface: SurfacePolicy) -> Sequence[DealtCard]:
        """The last cards: with the next one they are as many as a page of the surface has."""
        return self.dealt[-(surface.page_size - 1) :] if surface.page_size > 1 else ()

    def card_surface(self, surface: SurfacePolicy) -> SurfacePolicy:
        """The surface's rules as they are for the next card alone.

        Sponsored cards keep the largest share and the spacing over the session. What they may
        cost is a share of a page's utility, all of it on the few slots that are sponsored: a card
        may cost as much more as sponsored cards are rarer.
        """
        rules = surface.slate
        share = rules.sponsored_share
        slot = (self.number - 1) % surface.page_size + 1
        update: dict[str, object] = {
            "sponsored_share": 1.0 if self._may_be_sponsored(surface) else 0.0,
            "exploration_slots": (1,) if slot in rules.exploration_slots else (),
        }
        loss = surface.campaigns.most_organic_loss
        campaigns = surface.campaigns.model_copy(
            update={"most_organic_loss": min(1.0, loss / share) if share else loss}
        )
        return surface.model_copy(
            update={
                "slate": rules.model_copy(update=update),
                "campaigns": campaigns,
                "pins": {item: 1 for item, at in surface.pins.items() if at == self.number},
            }
        )

    def _may_be_sponsored(self, surface: SurfacePolicy) -> bool:
        rules = surface.slate
        before = sum(card.campaign_id != "" for card in self.dealt)
        # A share such as 0.3 of 10 cards is 3 in spite of rounding.
        quota = int(rules.sponsored_share * (len(self.dealt) + 1) + 1e-9)
        spacing = rules.sponsored_spacing
        near = self.dealt[-spacing:] if spacing else []
        return before < quota and not any(card.campaign_id for card in near)
