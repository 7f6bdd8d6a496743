"""Rows of one file, typed and checked against the interchange format.

Whole columns are converted at once; where that fails, halving finds the cells at fault,
so a bad cell costs a logarithm and a good column costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.interchange import CAMPAIGNS, EVENT_TYPES, TEXT_LIST, TIMESTAMP, TableSchema
from recmesh.storage.iso_codes import CODES

MAX_ID_BYTES = 256
DEFAULTS: dict[str, Any] = {"consents_personalisation": True, "weight": 1.0}

Mask = npt.NDArray[np.bool_]
Cells: TypeAlias = Sequence[Any] | pa.Array


def _convert_leniently(
    cells: Cells, kind: pa.DataType, convert: Callable[[Cells], pa.Array]
) -> tuple[pa.Array, Mask]:
    """Column of ``kind``, null where a cell cannot be converted, and the mask of those."""
    try:
        return convert(cells), np.zeros(len(cells), dtype=bool)
    except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError):
        if len(cells) == 1:
            return pa.nulls(1, kind), np.ones(1, dtype=bool)
    middle = len(cells) // 2
    left, bad_left = _convert_leniently(cells[:middle], kind, convert)
    right, bad_right = _convert_leniently(cells[middle:], kind, convert)
    return pa.concat_arrays([left, right]), np.concatenate([bad_left, bad_right])


def _times(texts: pa.Array) -> pa.Array:
    """ISO 8601 texts as moments; without a zone they are UTC."""
    texts = pc.if_else(pc.equal(pc.binary_length(texts), 0), None, texts)
    dates = pc.equal(pc.utf8_length(texts), 10)
    texts = pc.if_else(dates, pc.binary_join_element_wise(texts, "T00:00:00", ""), texts)
    zoned = pc.match_substring_regex(texts, r"(Z|[+-]\d\d(:?\d\d)?)$")
    texts = pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", ""))
    return texts.cast(pa.timestamp("us", tz="UTC")).cast(TIMESTAMP, safe=False)


def _from_text(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind == TIMESTAMP:
        return _times(texts)
    if kind == pa.string():
        return texts
    filled = pc.if_else(pc.equal(pc.binary_length(texts), 0), None, texts)
    if kind == TEXT_LIST:
        return pc.split_pattern(filled, "|")
    return filled.cast(kind)


def _typed(cells: Cells, kind: pa.DataType, *, csv: bool) -> pa.Array:
    """Cells as a column of ``kind``; raises when one does not fit."""
    if not isinstance(cells, pa.Array):
        cells = pa.array(cells, type=pa.string() if csv or kind == TIMESTAMP else kind)
    if csv:
        return _from_text(cells, kind)
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if kind == pa.string():
        if cells.type not in (pa.string(), pa.large_string(), pa.null()):
            raise TypeError(f"{cells.type} is not text")
        # Parquet readers trust the bytes; only a cast from binary checks them.
        return cells.cast(pa.large_binary()).cast(kind)
    if kind == TIMESTAMP and pa.types.is_string(cells.type):
        return _times(cells)
    return cells.cast(kind, safe=kind != TIMESTAMP)


def _fill(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.null_count == 0:
        return column
    if field.name in DEFAULTS:
        return column.fill_null(DEFAULTS[field.name])
    if field.type == pa.string():
        return column.fill_null("")
    if field.type == pa.bool_():
        return column.fill_null(False)
    if field.type == TEXT_LIST:
        return pc.if_else(column.is_null(), pa.scalar([], TEXT_LIST), column)
    return column


def _mask(column: pa.Array) -> Mask:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def _unknown_codes(column: pa.Array, name: str) -> dict[int, str]:
    """What is wrong with rows whose list names a code that nobody assigned."""
    codes, standard = CODES[name]
    values = pc.list_flatten(column)
    unknown = pc.invert(pc.is_in(values, value_set=pa.array(sorted(codes))))
    rows = pc.list_parent_indices(column).filter(unknown).to_pylist()
    named = values.filter(unknown).to_pylist()
    return {
        row: f"{name}: {code!r} is not an {standard} code"
        for row, code in zip(reversed(rows), reversed(named), strict=True)
    }


def check_rows(
    schema: TableSchema, cells: dict[str, Cells], count: int, *, csv: bool = False
) -> tuple[pa.Table, dict[int, str]]:
    """Types ``count`` rows and says what is wrong with each.

    Args:
        cells: columns by name, each of ``count`` cells; unknown names are ignored.
        csv: cells are texts, lists separated by ``|``.

    Returns:
        All rows in the format's types with blanks filled, and the first thing wrong with
        each bad row by its index.
    """
    reasons: dict[int, str] = {}

    def mark(bad: Mask, reason: str) -> None:
        for row in np.flatnonzero(bad).tolist():
            reasons.setdefault(row, reason)

    columns: dict[str, pa.Array] = {}
    for field in schema.columns:
        given = cells.get(field.name)
        if given is None or count == 0:
            column = pa.nulls(count, field.type)
        else:
            column, bad = _convert_leniently(
                given, field.type, partial(_typed, kind=field.type, csv=csv)
            )
            mark(bad, f"{field.name}: not valid {field.type}")
        if pa.types.is_floating(field.type):
            mark(_mask(pc.invert(pc.is_finite(column))), f"{field.name}: not a finite number")
        columns[field.name] = column = _fill(column, field)
        if field.name in schema.required:
            empty = column.is_null()
            if field.type == pa.string():
                empty = pc.equal(pc.binary_length(column), 0)
            mark(_mask(empty), f"{field.name}: required but empty")
        if field.name.endswith("_id"):
            long = pc.greater(pc.binary_length(column), MAX_ID_BYTES)
            mark(_mask(long), f"{field.name}: longer than {MAX_ID_BYTES} bytes")
        if field.name == "event_type":
            known = pc.is_in(column, pa.array(list(EVENT_TYPES)))
            mark(_mask(pc.invert(known)), f"event_type: not one of {', '.join(EVENT_TYPES)}")
        if field.name in ("dwell_s", "rank", "frequency_cap_per_day"):
            mark(_mask(pc.less(column, 0)), f"{field.name}: negative")
        if field.name in ("weight", "budget_impressions"):
            mark(_mask(pc.less_equal(column, 0)), f"{field.name}: must be above 0")
        if field.name == "value":
            outside = pc.or_(pc.less(column, 0), pc.greater(column, 1))
            mark(_mask(outside), "value: outside [0, 1]")
    if schema is CAMPAIGNS:
        for name in CODES:
            for row, reason in _unknown_codes(columns[name], name).items():
                reasons.setdefault(row, reason)
        ended = pc.less_equal(columns["ends_at"], columns["starts_at"])
        mark(_mask(ended), "ends_at: not after starts_at")
    return pa.table(columns, schema=schema.columns), reasons
