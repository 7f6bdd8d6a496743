"""Which events are believed: the rules beyond single fields, and what makes a row of an event.

Rules that the contract states of single fields are checked where requests enter, and break the
whole message. What is checked here quarantines one event and lets the others pass.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from recmesh.orchestrator.attribution_token import Attribution, AttributionTokens
from recmesh.storage.errors import DataError, InvalidRequestError
from recmesh.storage.event_log import CheckedEvent, Row
from recmesh.storage.event_tables import arms_text
from recmesh.storage.interchange import EVENT_TYPES
from recmesh.v1 import feedback_pb2

FUTURE_S = 3600
"""How far ahead a client's clock may be."""
PAST_S = 30 * 86_400
"""How late an event may come, by the client's clock."""
TOKEN_S = 7 * 86_400
"""How long after its page a token is accepted."""
MOST_DWELL_S = 86_400
MOST_RANK = 10_000
PAYLOAD_HASH_BYTES = 16
FIRST_S, LAST_S = -62_135_596_800, 253_402_300_799
"""Years 1 to 9999, what google.protobuf.Timestamp may say."""

Known: TypeAlias = Callable[[Collection[str]], set[str]]
"""Those of the ids that are an item's or, on the network surface, a user's."""

_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps makes one for every call.
_NAMES = {number: name for name, number in EVENT_TYPES.items()}
_TEXTS = ("event_id", "user_id", "item_id", "surface", "attribution_token", "query")


class EventCheck:
    """Checks events. :meth:`check` reads what is known: call it in a thread."""

    def __init__(self, tokens: AttributionTokens, known: Known) -> None:
        self._tokens = tokens
        self._known = known

    def check(
        self, events: Sequence[tuple[str, feedback_pb2.Event]], now_unix_s: float
    ) -> list[CheckedEvent]:
        """Judges each caller's event.

        Raises:
            UnavailableError: the catalogue does not answer.
        """
        checked = [self._checked(caller, event, now_unix_s) for caller, event in events]
        # Looked up once for all.
        unknown = {found.row["item_id"] for found in checked if _is_to_be_known(found)}
        unknown -= self._known(unknown)
        return [
            CheckedEvent(found.row, found.event, "item_id: not in the catalogue")
            if _is_to_be_known(found) and found.row["item_id"] in unknown
            else found
            for found in checked
        ]

    def _checked(self, caller: str, event: feedback_pb2.Event, now_unix_s: float) -> CheckedEvent:
        row: Row = {
            "caller": caller,
            "event_id": event.event_id,
            "payload_hash": payload_hash(event),
            "event_type": _NAMES[event.event_type],
            "user_id": event.user_id,
            "item_id": event.item_id,
            "surface": event.surface,
            "time": event.time.seconds * 1000 + event.time.nanos // 1_000_000,
            "dwell_ms": None,
            "rank": event.rank,
            "query": event.query,
            "request_id": "",
            "campaign_id": "",
            "policy_version": "",
            "experiment_arms": "",
        }
        try:
            _check_fields(event, now_unix_s)
            if event.HasField("dwell"):
                row["dwell_ms"] = event.dwell.seconds * 1000 + event.dwell.nanos // 1_000_000
            if event.attribution_token:
                row |= self._attributed(event, now_unix_s)
        except DataError as error:
            return CheckedEvent(row, event.SerializeToString(), str(error))
        return CheckedEvent(row, event.SerializeToString())

    def _attributed(self, event: feedback_pb2.Event, now_unix_s: float) -> Row:
        """What the token says of the event; it knows the page better than the client."""
        page = self._tokens.verified(event.attribution_token)
        content = page.content
        age_s = now_unix_s - content.issued_at_unix_s
        if age_s > TOKEN_S:
            raise DataError(
                f"attribution token: {age_s:.0f} s old; accepted for {TOKEN_S} s after its page"
            )
        if not page.is_of(event.user_id):
            raise DataError("attribution token: of another user's page")
        rank = _rank_on(page, event)
        row: Row = {
            "request_id": content.request_id,
            "policy_version": content.policy_version,
            "surface": content.surface,
            "experiment_arms": arms_text(page.arms_at(rank)),
        }
        if rank:
            row |= {"rank": rank, "campaign_id": page.campaign_at(rank)}
        return row


def _rank_on(page: Attribution, event: feedback_pb2.Event) -> int:
    rank = page.rank_of(event.item_id) if event.item_id else 0
    # Somebody followed from a page may be the author of what is on it.
    if not rank and _NAMES[event.event_type] not in ("search", "follow"):
        raise DataError("attribution token: of a page without this item")
    return rank


def _is_to_be_known(found: CheckedEvent) -> bool:
    # A valid token vouches for its page. Follows may name an author, whom no table keys.
    row = found.row
    return not (found.reason or row["request_id"] or row["event_type"] in ("search", "follow"))


def _check_fields(event: feedback_pb2.Event, now_unix_s: float) -> None:
    """Raises DataError with the rule and the value."""
    kind = _NAMES[event.event_type]
    if kind == "search":
        if event.item_id:
            raise DataError("item_id: must be empty for a search")
        if not event.query:
            raise DataError("query: required for a search")
    elif not event.item_id:
        raise DataError(f"item_id: required for event type {kind}")
    ahead_s = event.time.seconds - now_unix_s
    if ahead_s > FUTURE_S:
        raise DataError(
            f"time: {math.ceil(ahead_s)} s in the future; at most {FUTURE_S} s are accepted"
        )
    if -ahead_s > PAST_S:
        raise DataError(f"time: {math.ceil(-ahead_s)} s ago; at most {PAST_S} s are accepted")
    if event.dwell.seconds > MOST_DWELL_S:
        raise DataError(f"dwell: {event.dwell.seconds} s; at most {MOST_DWELL_S} s are accepted")
    if event.rank > MOST_RANK:
        raise DataError(f"rank: {event.rank}; at most {MOST_RANK} is accepted")


def payload_hash(event: feedback_pb2.Event) -> bytes:
    """Tells whether two events say the same; not serialised bytes, which releases may change."""
    said = [
        event.event_type,
        *(getattr(event, name) for name in _TEXTS),
        *(event.time.seconds, event.time.nanos),
        *((event.dwell.seconds, event.dwell.nanos) if event.HasField("dwell") else ()),
        event.rank,
    ]
    return hashlib.blake2b(_json(said).encode(), digest_size=PAYLOAD_HASH_BYTES).digest()


def refuse_unwritable(field: str, caller: str, events: Sequence[feedback_pb2.Event]) -> None:
    """What no database could keep, not even in quarantine.

    Args:
        field: path of the events in the message, ``{}`` for the place.
        caller: of the message.
        events: already valid by the contract's own rules.

    Raises:
        InvalidRequestError: names the field and the rule it breaks.
    """
    if "\0" in caller:
        raise InvalidRequestError("caller", "must not hold the character NUL")
    for place, event in enumerate(events):
        path = field.format(place)
        for name in _TEXTS:
            if "\0" in getattr(event, name):
                raise InvalidRequestError(f"{path}.{name}", "must not hold the character NUL")
        time = event.time
        if not FIRST_S <= time.seconds <= LAST_S or not 0 <= time.nanos < 10**9:
            raise InvalidRequestError(f"{path}.time", "must lie in the years 1 to 9999")
        if not 0 <= event.dwell.nanos < 10**9:
            raise InvalidRequestError(f"{path}.dwell", "must have 0 to 999,999,999 nanoseconds")
