"""The contract's catalog messages as rows of the log, and the rules that span fields.

What one field must be, the contract says and the edge has checked already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.storage.catalog_log import Row, Upsert
from recmesh.storage.catalog_tables import SCHEMAS
from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.iso_codes import CODES
from recmesh.v1 import catalog_pb2

FIRST_S, LAST_S = -62_135_596_800, 253_402_300_799
"""Years 1 to 9999, what google.protobuf.Timestamp may say."""

Convert: TypeAlias = Callable[[Any], Row]


def _ms(message: Message, name: str) -> int | None:
    """Milliseconds since 1970; None when the field is empty."""
    if not message.HasField(name):
        return None
    time: Timestamp = getattr(message, name)
    if not FIRST_S <= time.seconds <= LAST_S or not 0 <= time.nanos < 10**9:
        raise InvalidRequestError(name, "must lie in the years 1 to 9999")
    return time.seconds * 1000 + time.nanos // 1_000_000


def _item(item: catalog_pb2.Item) -> Row:
    published, expires = _ms(item, "published_at"), _ms(item, "expires_at")
    if published is not None and expires is not None and expires <= published:
        raise InvalidRequestError("expires_at", "must be after published_at")
    return {
        "item_id": item.item_id,
        "content_type": item.content_type,
        "title": item.title,
        "abstract": item.abstract,
        "body": item.body,
        "topics": list(item.topics),
        "specialties": list(item.specialties),
        "language": item.language,
        "countries": list(item.countries),
        "authors": list(item.authors),
        "published_at": published,
        "expires_at": expires,
        "sponsor": item.sponsor,
        "off_label_countries": list(item.off_label_countries),
    }


def _user(user: catalog_pb2.User) -> Row:
    return {
        "user_id": user.user_id,
        "specialties": list(user.specialties),
        "country": user.country,
        "language": user.language,
        "interests": user.interests,
        "consents_personalisation": user.consents_personalisation,
        "consents_sponsored": user.consents_sponsored,
        "registered_at": _ms(user, "registered_at"),
    }


def _edge(edge: catalog_pb2.Edge) -> Row:
    if edge.source_user_id == edge.target_user_id:
        raise InvalidRequestError("target_user_id", "must not be source_user_id")
    return {
        "source_user_id": edge.source_user_id,
        "target_user_id": edge.target_user_id,
        "edge_type": edge.edge_type,
        "weight": edge.weight or 1.0,
        "created_at": _ms(edge, "created_at"),
    }


def _campaign(campaign: catalog_pb2.Campaign) -> Row:
    starts, ends = _ms(campaign, "starts_at"), _ms(campaign, "ends_at")
    if starts is None or ends is None or ends <= starts:
        raise InvalidRequestError("ends_at", "must be after starts_at")
    for name, (codes, standard) in CODES.items():
        for code in getattr(campaign.targeting, name):
            if code not in codes:
                raise InvalidRequestError(
                    f"targeting.{name}", f"{code!r} is not an {standard} code"
                )
    return {
        "campaign_id": campaign.campaign_id,
        "sponsor": campaign.sponsor,
        "item_ids": list(campaign.item_ids),
        "specialties": list(campaign.targeting.specialties),
        "countries": list(campaign.targeting.countries),
        "languages": list(campaign.targeting.languages),
        "starts_at": starts,
        "ends_at": ends,
        "budget_impressions": campaign.budget_impressions,
        "frequency_cap_per_day": campaign.frequency_cap_per_day,
        "value": campaign.value,
        "disclosure": campaign.disclosure,
    }


def _refuse_nul(row: Row) -> None:
    for name, value in row.items():
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise InvalidRequestError(name, "must not hold the character NUL")


_CONVERT: dict[str, Convert] = {
    "items": _item,
    "users": _user,
    "edges": _edge,
    "campaigns": _campaign,
}


def rows_to_write(table: str, request: Message) -> Upsert:
    """The rows of an upsert's message, whose one field is named as the table.

    Raises:
        InvalidRequestError: names the field and the rule it breaks.
    """
    rows: dict[tuple[Any, ...], Row] = {}
    key_names = SCHEMAS[table].key
    for place, message in enumerate(getattr(request, table)):
        try:
            row = _CONVERT[table](message)
            _refuse_nul(row)
            key = tuple(row[name] for name in key_names)
            if key in rows:
                raise InvalidRequestError(key_names[0], "is in this message twice")
        except InvalidRequestError as error:
            rule = str(error).removeprefix(f"{error.field}: ")
            raise InvalidRequestError(f"{table}[{place}].{error.field}", rule) from None
        rows[key] = row
    return Upsert(table, list(rows.values()))
