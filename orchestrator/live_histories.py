"""What users did since the data set was ingested, for the requests that come next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.orchestrator.user_store import HISTORY_LENGTH, SHOWN_TO_MODELS, UserProfile
from recmesh.storage.interchange import EVENT_TYPES

FOLLOWED_EVENTS = (
    "user_id",
    "item_id",
    "event_type",
    "received_at",
    "request_id",
    "campaign_id",
    "counted",
)
"""Columns of the event log that serving follows."""


def with_events(
    profile: UserProfile, events: Iterable[tuple[str, int, int]], *, erased: bool
) -> UserProfile:
    """The profile with events of late behind its history, at most 128 in all, the newest.

    As for ingested events: who does not consent to personalisation has none, and who acted
    before anybody described them may be personalised.

    Args:
        profile: of the user.
        events: item, number of the event type, and seconds since the Unix epoch, oldest first.
        erased: users have nothing.
    """
    added = tuple(events)
    if not added or erased or (profile.known and not profile.consents_personalisation):
        return profile
    ids, types, times = zip(*added, strict=True)
    kept = -HISTORY_LENGTH
    return replace(
        profile,
        known=True,
        consents_personalisation=True,
        history_item_ids=(*profile.history_item_ids, *ids)[kept:],
        history_event_types=(*profile.history_event_types, *types)[kept:],
        history_times_unix_s=(*profile.history_times_unix_s, *times)[kept:],
    )


class LiveHistories:
    """The newest events of every user. Belongs to one event loop.

    A request reads its user's once, when it is admitted.
    """

    def __init__(self) -> None:
        self._events: dict[str, deque[tuple[str, int, int]]] = {}

    def take(self, events: pa.Table) -> None:
        """Adds events, oldest first, of the columns :data:`FOLLOWED_EVENTS`."""
        shown = events.filter(
            pc.is_in(events["event_type"], value_set=pa.array(SHOWN_TO_MODELS, pa.string()))
        )
        seconds = pc.divide(shown["received_at"].cast(pa.int64()), 1000)
        for user_id, item_id, event_type, time_unix_s in zip(
            shown["user_id"].to_pylist(),
            shown["item_id"].to_pylist(),
            shown["event_type"].to_pylist(),
            seconds.to_pylist(),
            strict=True,
        ):
            newest = self._events.setdefault(user_id, deque(maxlen=HISTORY_LENGTH))
            newest.append((item_id, EVENT_TYPES[event_type], time_unix_s))

    def added_to(self, profile: UserProfile, *, erased: bool) -> UserProfile:
        """The profile with the user's events of late; see :func:`with_events`."""
        return with_events(profile, self._events.get(profile.user_id, ()), erased=erased)
