"""What objectives see of the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.catalog import Catalog

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveInput:
    """The candidates' rows of the catalog, and what a request knows of them.

    What a new objective needs is a new field here.
    """

    catalog: Catalog
    rows: npt.NDArray[np.int32]
    """Catalog rows ``[n]``."""
    relevance: Float32
    """Blended model opinion of what was asked ``[n]``, in [0, 1]."""
    affinity: Float32
    """Blended model opinion of what suits the user ``[n]``, in [0, 1]."""
    campaign_worth: Float32
    """Worth of the campaign that would pay for the slot ``[n]``, in [0, 1]; 0: none."""
    now_unix_s: int
    half_life_days: Mapping[str, float]
    """Of freshness, by content type; ``default`` is every other type's."""
