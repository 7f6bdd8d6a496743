"""Filters of the vector index: typed conditions on fields that the schema allows.

A filter is data, never text: the expression that Milvus reads is made here, and every value
is quoted. The exact index evaluates the same conditions itself; one suite holds the two
together for arbitrary values.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.vector_schema import ID, FieldType, IndexSchema

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Column = Sequence[str] | Sequence[Sequence[str]] | Int64
"""One field of many rows: terms, lists of terms, or seconds int64 ``[n]``."""

INT64 = np.iinfo(np.int64)


def storable(term: str) -> bool:
    """Whether a term can be in the index: valid Unicode without control characters.

    Milvus and its embedded form read the escapes of control characters differently, so no
    row holds one, and a condition on one matches nothing.
    """
    return term.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs") for c in term)


def quoted(term: str) -> str:
    """A storable term as a literal of Milvus' expression language."""
    return '"' + term.replace("\\", "\\\\").replace('"', '\\"') + '"'


def any_id(ids: Sequence[str]) -> str:
    """The expression of rows with one of these ids."""
    return f"{ID} in [{', '.join(quoted(id_) for id_ in ids)}]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Rows that have at least one of the values. No values: no row."""

    field: str
    """Of type TERM or TERMS."""
    values: tuple[str, ...]
    or_empty: bool = False
    """Also rows whose field is empty."""


@dataclass(frozen=True, slots=True)
class Between:
    """Rows whose moment lies between the two, both inclusive."""

    field: str
    """Of type UNIX_S."""
    at_least: int = INT64.min
    at_most: int = INT64.max


Condition = AnyOf | Between


@dataclass(frozen=True, slots=True)
class IndexFilter:
    """Rows that meet every condition.

    Raises:
        InvalidRequestError: a condition names a field that the schema does not let filters
            name or that has another type, or a bound does not fit int64.
    """

    schema: IndexSchema
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        for condition in self.conditions:
            field = self.schema.by_name.get(condition.field)
            if field is None or not field.filterable:
                names = ", ".join(f.name for f in self.schema.fields if f.filterable)
                raise InvalidRequestError(
                    f"filter.{condition.field}",
                    f"no field to filter {self.schema.name} by: {names}",
                )
            if isinstance(condition, Between) != (field.type is FieldType.UNIX_S):
                raise InvalidRequestError(
                    f"filter.{field.name}",
                    f"holds {field.type}; {type(condition).__name__} is for others",
                )
            if isinstance(condition, Between) and not all(
                INT64.min <= bound <= INT64.max for bound in (condition.at_least, condition.at_most)
            ):
                raise InvalidRequestError(f"filter.{field.name}", "a bound exceeds 64 bits")

    def expression(self) -> str:
        """In Milvus' language; empty when there are no conditions."""
        return " and ".join(
            self._between(c) if isinstance(c, Between) else self._any_of(c) for c in self.conditions
        )

    def _between(self, condition: Between) -> str:
        if condition.at_least > condition.at_most:
            return _NO_ROW
        bounds = []
        if condition.at_least > INT64.min:
            bounds.append(f"{condition.field} >= {condition.at_least}")
        if condition.at_most < INT64.max:
            bounds.append(f"{condition.field} <= {condition.at_most}")
        return f"({' and '.join(bounds)})" if bounds else _EVERY_ROW

    def _any_of(self, condition: AnyOf) -> str:
        name, parts = condition.field, []
        listed = self.schema.by_name[name].type is FieldType.TERMS
        values = ", ".join(quoted(v) for v in _possible(condition))
        if values:
            parts.append(
                f"array_contains_any({name}, [{values}])" if listed else f"{name} in [{values}]"
            )
        if condition.or_empty:
            parts.append(f"array_length({name}) == 0" if listed else f'{name} == ""')
        return f"({' or '.join(parts)})" if parts else _NO_ROW

    def mask(self, columns: Mapping[str, Column], count: int) -> Bool:
        """Which of ``count`` rows with these columns meet every condition, bool ``[count]``."""
        kept = np.ones(count, bool)
        for condition in self.conditions:
            column = columns[condition.field]
            if isinstance(condition, Between):
                moments = np.asarray(column, np.int64)
                kept &= (moments >= condition.at_least) & (moments <= condition.at_most)
                continue
            wanted = set(_possible(condition))
            if self.schema.by_name[condition.field].type is FieldType.TERMS:
                found = (not wanted.isdisjoint(v) or (condition.or_empty and not v) for v in column)
            else:
                found = (v in wanted or (condition.or_empty and not v) for v in column)
            kept &= np.fromiter(found, bool, count)
        return kept


_NO_ROW = f'{ID} == ""'
_EVERY_ROW = f'{ID} != ""'


def _possible(condition: AnyOf) -> list[str]:
    """The values that a row can have; an empty one is what ``or_empty`` is for."""
    return [value for value in condition.values if value and storable(value)]
