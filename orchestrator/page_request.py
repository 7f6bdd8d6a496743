"""A page that is wanted: all that filtering, blending and selecting read of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recmesh.orchestrator.catalog import Catalog
from recmesh.orchestrator.page_token import MAX_SLOTS
from recmesh.orchestrator.policy import SurfacePolicy
from recmesh.orchestrator.recent_impressions import Impression
from recmesh.orchestrator.swipe.session import DealtCard
from recmesh.orchestrator.user_store import UserProfile
from recmesh.v1 import recommendation_pb2


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """What a page is to be, and for whom. Holds no connection: a recorded one works the same."""

    message: recommendation_pb2.RecommendRequest
    request_id: str
    surface: SurfacePolicy
    """The rules of the page, the caller's preferences and a session's card taken in."""
    catalog: Catalog
    user: UserProfile
    now_unix_s: int
    offset: int
    """Slots that earlier pages gave."""
    page_size: int
    preferences: Mapping[str, float]
    """Of objectives, to mix into the surface's weights. A surface with a front is at the preferred
    point already, and has none: a mix could be dominated."""
    shown_lately: Sequence[Impression] = ()
    """What other pages showed the user in the last 24 hours, newest first."""
    drafted_for: str = ""
    """Arm that picks from the page in turn with another; empty: the page is shown as it is."""
    card: int = 0
    """Number of the session's card that the page is; 0: it is a page of its own."""
    dealt: Sequence[DealtCard] = ()
    """Cards of a session that the slate's caps count besides this one."""

    @property
    def country(self) -> str:
        """Where the user is; empty: unknown."""
        return self.message.context.country or self.user.country

    @property
    def language(self) -> str:
        """Of the user's interface; empty: unknown."""
        return self.message.context.language or self.user.language

    @property
    def asked_as(self) -> str:
        """The id of the request that the page is a part of the answer to."""
        if not self.drafted_for:
            return self.request_id
        return self.request_id.removesuffix(f"/{self.drafted_for}")

    @property
    def slots(self) -> int:
        """Slots to fill, earlier pages' included."""
        return min(self.offset + self.page_size, MAX_SLOTS)
