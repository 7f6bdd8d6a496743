"""Arrow columns made at once, without a Python object a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def numbered(prefix: str, start: int, stop: int, width: int) -> pa.Array:
    """Ids ``prefix`` + number, from ``start`` to before ``stop``, padded to ``width``."""
    digits = pc.utf8_lpad(pa.array(np.arange(start, stop)).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def named(names: Sequence[str], rows: Ints) -> pa.Array:
    """``names[row]`` for each row; empty where a row is negative."""
    texts = pa.array([*names, ""], pa.string())
    return texts.take(pa.array(np.where(rows < 0, len(names), rows)))


def lists_of(names: Sequence[str], members: NDArray[np.bool_]) -> pa.Array:
    """Lists of the names that are set in each row of ``members`` ``[n, len(names)]``."""
    ends = np.cumsum(members.sum(axis=1))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, named(names, np.nonzero(members)[1]))


def lists_of_one(names: Sequence[str], rows: Ints) -> pa.Array:
    """Lists of one name each, ``[names[row]]``."""
    return pa.ListArray.from_arrays(np.arange(len(rows) + 1, dtype=np.int32), named(names, rows))


def joined(*parts: str | pa.Array) -> pa.Array:
    """Texts put together row by row; a plain text stands in every row."""
    return pc.binary_join_element_wise(*parts, "")
