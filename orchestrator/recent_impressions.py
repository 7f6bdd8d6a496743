"""What every user was shown of late, on all surfaces: for frequency caps and against fatigue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

REMEMBERED_S = 24 * 3600
MOST_REMEMBERED = 400
"""Impressions of a user; older ones are forgotten earlier."""


@dataclass(frozen=True, slots=True)
class Impression:
    """An item that a user had on screen."""

    item_id: str
    campaign_id: str
    """Whose slot it was; empty: nobody's."""
    request_id: str
    """Of the page that showed it; empty: none of ours."""
    time_unix_s: float
    """By the server's clock."""


class RecentImpressions:
    """The last 24 hours of every user. Belongs to one event loop."""

    def __init__(self) -> None:
        self._of: dict[str, deque[Impression]] = {}

    def take(self, events: pa.Table, now_unix_s: float) -> None:
        """Adds impressions among recorded events, oldest first.

        Args:
            events: of the columns :data:`~recmesh.orchestrator.live_histories.FOLLOWED_EVENTS`.
            now_unix_s: what is 24 hours older is passed by.
        """
        received_ms = events["received_at"].cast(pa.int64())
        recent = pc.greater(received_ms, int(1000 * (now_unix_s - REMEMBERED_S)))
        # An item that one page showed twice was seen once.
        shown = pc.and_(pc.equal(events["event_type"], "impression"), events["counted"])
        kept = events.filter(pc.and_(recent, shown))
        for user_id, item_id, campaign_id, request_id, at_ms in zip(
            kept["user_id"].to_pylist(),
            kept["item_id"].to_pylist(),
            kept["campaign_id"].to_pylist(),
            kept["request_id"].to_pylist(),
            kept["received_at"].cast(pa.int64()).to_pylist(),
            strict=True,
        ):
            of_user = self._of.setdefault(user_id, deque(maxlen=MOST_REMEMBERED))
            of_user.append(Impression(item_id, campaign_id, request_id, at_ms / 1000))

    def of(self, user_id: str, now_unix_s: float, *, but_request: str = "") -> Iterator[Impression]:
        """The user's, newest first, of the last 24 hours.

        Args:
            user_id: whose.
            now_unix_s: the end of the 24 hours.
            but_request: whose page does not count: the next page of a request is a cut of the
                same slate.
        """
        for shown in reversed(self._of.get(user_id, ())):
            if shown.time_unix_s <= now_unix_s - REMEMBERED_S:
                return
            if not shown.request_id or shown.request_id != but_request:
                yield shown
