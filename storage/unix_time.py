"""Moments as whole seconds since the Unix epoch, with a value for those that are not known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64 = npt.NDArray[np.int64]

UNKNOWN_UNIX_S = 0
NEVER_UNIX_S = int(np.iinfo(np.int64).max)


def unix_s(column: pa.ChunkedArray, missing: int) -> Int64:
    """Seconds of a column of :data:`~recmesh.storage.interchange.TIMESTAMP`.

    Args:
        column: times in milliseconds, nulls allowed.
        missing: seconds that stand for null.

    Returns:
        Seconds ``[n]``, rounded towards zero.
    """
    seconds = pc.divide(pc.cast(column, pa.int64()), 1000)
    filled: Int64 = pc.fill_null(seconds, missing).to_numpy().astype(np.int64)
    return filled
