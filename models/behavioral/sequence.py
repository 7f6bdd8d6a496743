"""What training and serving read of a history, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.models.model import Int64
from recmesh.storage.interchange import EVENT_TYPES

LENGTH = 50
EVENT_KINDS = max(EVENT_TYPES.values()) + 1
GAP_BUCKETS = 16


def gap_buckets(times_unix_s: Sequence[int], now_unix_s: int) -> Int64:
    """Buckets in [1, 15] of the time from each event to the one after it, the last to now.

    The bucket is 1 + log₂ of hours, capped; 0 is padding. A gap ends when the next item is
    asked for, so training and serving see the same thing.
    """
    hours = np.maximum(np.diff([*times_unix_s, now_unix_s]), 0) / 3600
    buckets: Int64 = np.minimum(1 + np.log2(1 + hours), GAP_BUCKETS - 1).astype(np.int64)
    return buckets
