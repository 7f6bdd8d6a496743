"""Builds a synthetic world of doctors and writes it as interchange tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recmesh.offline.world.campaigns import booked, plan
from recmesh.offline.world.catalogue import Catalogue, generated
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.lexicon import SPECIALTIES, TOPICS
from recmesh.offline.world.population import TOPIC_SPECIALTY, Population, populate
from recmesh.offline.world.real_catalogue import real
from recmesh.offline.world.sessions import Simulation
from recmesh.offline.world.truth import Preference, Truth
from recmesh.storage.interchange import EVENTS


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-9), np.float32)


def _truth(
    config: WorldConfig, catalogue: Catalogue, population: Population, rng: np.random.Generator
) -> Truth:
    dim, n = config.dim, catalogue.table.num_rows
    specialty = rng.standard_normal((len(SPECIALTIES), dim))
    topic = specialty[TOPIC_SPECIALTY] + 0.8 * rng.standard_normal((len(TOPICS), dim))
    doctors = _unit(
        0.5 * specialty[population.specialty]
        + 0.8 * topic[population.topic]
        + 0.5 * rng.standard_normal((config.doctors, dim))
    )
    # Edges are sorted by source, so each doctor's are one run.
    firsts = np.flatnonzero(np.diff(population.source, prepend=-1))
    social = np.zeros((config.doctors, dim))
    if len(firsts):
        sums = np.add.reduceat(doctors[population.target], firsts, axis=0)
        social[population.source[firsts]] = sums
    text = catalogue.text_direction
    own = rng.standard_normal((n, dim)) if text is None else text
    popularity = 1.2 * rng.standard_normal(n)
    return Truth(
        doctors=doctors,
        drift=config.drift * _unit(rng.standard_normal((config.doctors, dim))),
        social=_unit(social),
        items=_unit(topic[catalogue.topic] + 0.5 * own),
        quality=rng.standard_normal(n).astype(np.float32),
        popularity=popularity.astype(np.float32),
        published=catalogue.published.astype(np.float32),
        half_life=catalogue.half_life.astype(np.float32),
        position_bias=(np.arange(1, config.slots + 1) ** -0.5).astype(np.float32),
        days=float(config.days),
        preference=Preference(),
    )


def generate(
    out: Path,
    config: WorldConfig,
    catalogue_folder: Path | None = None,
    on_day: Callable[[], None] = lambda: None,
    sample: int | None = None,
) -> dict[str, int]:
    """Writes the five tables into ``out`` and the ground truth into ``out/truth``.

    Args:
        catalogue_folder: an interchange folder whose items replace generated ones.
        on_day: called after each simulated day.
        sample: number of the folder's items to draw, evenly; None: all.

    Returns:
        Rows written, by table; with a catalogue folder also :attr:`Catalogue.found`.

    Raises:
        NotFoundError: the catalogue folder holds no items.
        DataError: its items break the format.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(6)]
    catalogue = (
        real(catalogue_folder, config, streams[0], sample)
        if catalogue_folder
        else generated(config, streams[0])
    )
    population = populate(config, streams[1])
    campaigns = plan(config, catalogue, streams[2])
    truth = _truth(config, catalogue, population, streams[3])
    truth.save(out / "truth")
    tables = {
        "items": catalogue.table,
        "users": population.table,
        "edges": population.edges,
        "campaigns": pa.concat_tables(
            [campaigns.table, booked(config, catalogue, len(campaigns.items), streams[5])]
        ),
    }
    for name, table in tables.items():
        pq.write_table(table, out / f"{name}.parquet")
    rows = {name: int(table.num_rows) for name, table in tables.items()} | {"events": 0}
    simulation = Simulation(config, catalogue, population, campaigns, truth, streams[4])
    with pq.ParquetWriter(out / "events.parquet", EVENTS.columns) as writer:
        for events in simulation.run():
            writer.write_table(events)
            rows["events"] += int(events.num_rows)
            on_day()
    return rows | dict(catalogue.found)
