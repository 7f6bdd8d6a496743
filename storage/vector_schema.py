"""What the vector index holds of items, users and campaigns, field by field.

The one declaration: Milvus' fields, the fields that filters may name and the check of what
is written are derived from it; ``docs/vector-index.md`` shows it. Every collection also has

- ``id``: the key; text of 1 to 256 bytes,
- ``vector``: float32 ``[dim]``, finite and not all zero; compared by cosine,
- ``text``: the words that BM25 compares, as :mod:`recmesh.storage.word_analysis` makes them, cut
  to 65,535 bytes,
- ``sparse``: made from ``text`` by Milvus itself.

Nothing may be absent: an empty text, an empty list, and for times one of the two values of
:mod:`recmesh.storage.unix_time` stand for what is not known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

ID, VECTOR, TEXT, SPARSE = "id", "vector", "text", "sparse"
MAX_ID_BYTES = 256
MAX_TEXT_BYTES = 65_535
"""The longest text of Milvus."""
MAX_TERM_BYTES = 256
MAX_TERMS = 1024


class FieldType(StrEnum):
    """What a field holds."""

    TERM = "term"
    """One short text of at most 256 bytes without control characters; empty: unknown."""
    TERMS = "terms"
    """At most 1,024 of them, none of them empty; an empty list does not narrow."""
    UNIX_S = "unix_s"
    """Seconds since the Unix epoch, UTC, int64."""
    TEXT = "text"
    """A text to be shown, cut to 65,535 bytes. No filter may name it."""


@dataclass(frozen=True, slots=True)
class IndexField:
    """One field beside the vector and the text."""

    name: str
    type: FieldType
    meaning: str
    filterable: bool = True
    """Whether a filter may name it."""


@dataclass(frozen=True)
class IndexSchema:
    """The fields of one kind of collection."""

    name: str
    fields: tuple[IndexField, ...]

    @cached_property
    def by_name(self) -> dict[str, IndexField]:
        """Every field by its name."""
        return {field.name: field for field in self.fields}

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the names and types: a collection of another one cannot be used."""
        shape = " ".join(f"{field.name}:{field.type}" for field in self.fields)
        return hashlib.sha256(shape.encode()).hexdigest()[:8]


SPECIALTIES = IndexField("specialties", FieldType.TERMS, "Specialties it is for; empty: all.")
COUNTRIES = IndexField("countries", FieldType.TERMS, "ISO 3166-1 alpha-2; empty: all.")
LANGUAGE = IndexField("language", FieldType.TERM, "ISO 639-1; empty: unknown.")
SPONSOR = IndexField("sponsor", FieldType.TERM, "Who paid for it; empty: nobody.")
ORIGIN = (
    IndexField("embedding_version", FieldType.TERM, "The embedding space of the vector."),
    IndexField(
        "content_hash",
        FieldType.TERM,
        "SHA-256 of the text that was embedded: the same hash needs no new vector.",
        filterable=False,
    ),
)

ITEM_INDEX = IndexSchema(
    "items",
    (
        IndexField("content_type", FieldType.TERM, "article, video, case, guideline, …"),
        IndexField("topics", FieldType.TERMS, "Topics; empty: unknown."),
        SPECIALTIES,
        LANGUAGE,
        COUNTRIES,
        IndexField("published_at", FieldType.UNIX_S, "When it appeared; 0: unknown."),
        IndexField("expires_at", FieldType.UNIX_S, "Not shown from then on; 2⁶³ - 1: never."),
        SPONSOR,
        IndexField("campaign_ids", FieldType.TERMS, "Campaigns that pay for it; empty: none."),
        IndexField("abstract", FieldType.TEXT, "What snippets are cut from.", filterable=False),
        *ORIGIN,
    ),
)
"""Content."""

USER_INDEX = IndexSchema(
    "users",
    (
        IndexField("specialties", FieldType.TERMS, "Most important first; empty: unknown."),
        LANGUAGE,
        IndexField("countries", FieldType.TERMS, "Where the doctor practises; empty: unknown."),
        *ORIGIN,
    ),
)
"""Doctors. Consents are not copied here: who may be shown what is decided elsewhere."""

CAMPAIGN_INDEX = IndexSchema(
    "campaigns",
    (
        SPECIALTIES,
        IndexField("languages", FieldType.TERMS, "ISO 639-1 targeting; empty: all."),
        COUNTRIES,
        IndexField("starts_at", FieldType.UNIX_S, "First moment it may show."),
        IndexField("ends_at", FieldType.UNIX_S, "Not shown from then on."),
        SPONSOR,
        *ORIGIN,
    ),
)
"""Campaigns. The items they pay for name them: ``campaign_ids``."""

SCHEMAS: dict[str, IndexSchema] = {s.name: s for s in (ITEM_INDEX, USER_INDEX, CAMPAIGN_INDEX)}
"""Every schema by name."""
