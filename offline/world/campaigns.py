"""The sponsored campaigns of a world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recmesh.offline.world.catalogue import Catalogue
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.lexicon import SPECIALTIES
from recmesh.offline.world.population import TOPIC_SPECIALTY
from recmesh.storage.interchange import CAMPAIGNS


@dataclass(frozen=True)
class Campaigns:
    """Campaigns; rows correspond."""

    table: pa.Table
    items: list[NDArray[np.int64]]
    specialty: NDArray[np.int64]
    starts: NDArray[np.float64]  # days since the start
    ends: NDArray[np.float64]
    budget: NDArray[np.int64]  # impressions


def plan(config: WorldConfig, catalogue: Catalogue, rng: np.random.Generator) -> Campaigns:
    """Plans campaigns that run within the simulated days."""
    n = config.campaigns
    specialty = _specialties(catalogue, n, rng)
    starts = rng.uniform(0, config.days * 0.6, n)
    ends = starts + rng.uniform(0.15, 0.4, n) * config.days
    budget = rng.integers(1, 5, n) * max(10, config.doctors // 20)
    return _campaigns(config, catalogue, specialty, starts, ends, budget, rng)


def booked(
    config: WorldConfig, catalogue: Catalogue, first: int, rng: np.random.Generator
) -> pa.Table:
    """Half as many that begin when the simulated days end: what a mesh that serves the world sells.

    Args:
        first: number of the first; the ids count on from there.
    """
    n = (config.campaigns + 1) // 2
    specialty = _specialties(catalogue, n, rng)
    starts = np.full(n, float(config.days))
    ends = starts + rng.uniform(14, 60, n)
    budget = rng.integers(1, 5, n) * max(10, config.doctors // 20)
    return _campaigns(config, catalogue, specialty, starts, ends, budget, rng, first).table


def _specialties(catalogue: Catalogue, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(np.unique(TOPIC_SPECIALTY[catalogue.topic]), n)


def _campaigns(
    config: WorldConfig,
    catalogue: Catalogue,
    specialty: NDArray[np.int64],
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    budget: NDArray[np.int64],
    rng: np.random.Generator,
    first: int = 0,
) -> Campaigns:
    """Each on up to five items of its specialty."""
    n = len(specialty)
    items = []
    for row in specialty:
        own = np.flatnonzero(TOPIC_SPECIALTY[catalogue.topic] == row)
        items.append(np.sort(rng.choice(own, min(5, len(own)), replace=False)))
    ids = catalogue.table["item_id"].to_pylist()
    sponsors = [f"Sponsor {row + 1}" for row in range(first, first + n)]
    table = pa.table(
        {
            "campaign_id": [f"c{row:03d}" for row in range(first, first + n)],
            "sponsor": sponsors,
            "item_ids": [[ids[i] for i in rows] for rows in items],
            "specialties": [[SPECIALTIES[s]] for s in specialty],
            "countries": [[] for _ in range(n)],
            "languages": [[] for _ in range(n)],
            "starts_at": config.timestamps(starts),
            "ends_at": config.timestamps(ends),
            "budget_impressions": budget,
            "frequency_cap_per_day": np.zeros(n, np.int32),
            "value": rng.uniform(0.2, 1.0, n).astype(np.float32),
            "disclosure": [f"Sponsored by {sponsor}" for sponsor in sponsors],
        },
        schema=CAMPAIGNS.columns,
    )
    return Campaigns(table, items, specialty, starts, ends, budget)
