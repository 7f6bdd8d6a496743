"""What one source proposes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]


class Found(NamedTuple):
    """Candidates of one source, best first."""

    rows: Int32
    """Catalog rows ``[n]``; -1 for items that the catalog does not have."""
    scores: Float32
    """Raw scores ``[n]``; empty when the source does not score."""
    read_as: str = ""
    """The query as it was searched, when its spelling was corrected; empty: as typed."""


NOTHING = Found(np.empty(0, np.int32), np.empty(0, np.float32))
