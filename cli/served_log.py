"""The serving log of an installation: its events, its data set, and who embeds its items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import current_dataset, opened_database
from recmesh.models.model import Progress
from recmesh.offline.diagnosis.decision_source import PageRecords
from recmesh.offline.diagnosis.event_source import (
    COLUMNS,
    Settings,
    ingested_events,
    serving_log,
)
from recmesh.offline.diagnosis.serving_log import Float32, ServingLog
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.decision_log import DecisionLog, DecisionSpan
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from recmesh.storage.interchange import TIMESTAMP

READ_TOGETHER = 50_000
MOST_RECORDS = 20_000
"""Pages whose records are opened: enough for every share that matters, in a minute."""
DAY_MS = 86_400_000
CLOCKS_DIFFER = timedelta(days=31)
"""Clients' clocks may be behind by 30 days and ahead by an hour."""


class EventsFrom(StrEnum):
    """Whose events are looked at."""

    AUTO = "auto"
    RECORDED = "recorded"
    INGESTED = "ingested"


@dataclass(frozen=True)
class Read:
    """A serving log, and where it is from."""

    log: ServingLog
    events: EventsFrom


def read_log(home: Home, days: float, wanted: EventsFrom, progress: Progress) -> Read:
    """The last days of what was served.

    Raises:
        NotFoundError: nothing was ingested.
        DataError: there is no impression to look at.
        UnavailableError: the database does not answer.
    """
    dataset = current_dataset(home)
    policy = served_policy(home)
    surfaces = policy.surfaces.values()
    settings = Settings(
        days=days,
        asked_surfaces=tuple(n for n, s in policy.surfaces.items() if s.query == "required"),
        sponsored_share=max(surface.slate.sponsored_share for surface in surfaces),
        experiments=ExperimentStore(home.experiments).read().book,
    )
    vectors = _item_vectors(home, dataset)
    database = None if wanted is EventsFrom.INGESTED else opened_database(home)
    if database is not None:
        try:
            recorded = _recorded(database, days, dataset.campaigns, progress)
            shown = recorded.filter(pc.equal(recorded["event_type"], "impression"))
            if len(shown):
                records = _decisions(database, days, pc.max(shown["time"]).as_py(), progress)
                before = ingested_events(dataset)
                log = serving_log(dataset, recorded, settings, vectors, before, records)
                return Read(log, EventsFrom.RECORDED)
        finally:
            database.close()
    if wanted is EventsFrom.RECORDED:
        raise DataError("no impression was recorded; --events ingested looks at ingested ones")
    return Read(
        serving_log(dataset, ingested_events(dataset), settings, vectors), EventsFrom.INGESTED
    )


def _recorded(database: Database, days: float, campaigns: pa.Table, progress: Progress) -> pa.Table:
    """Recorded events, without impressions that are of neither the period nor its campaigns."""
    log = EventLog(database)
    head = log.read(limit=0).head_seq
    last = log.read(head - 1, columns=["received_at"]).events["received_at"]
    oldest = None
    if len(last):
        start = last[0].as_py() - timedelta(days=days) - CLOCKS_DIFFER
        running = campaigns.filter(pc.greater(campaigns["ends_at"], pa.scalar(start, TIMESTAMP)))
        first = pc.min(running["starts_at"]).as_py()
        oldest = min(start, first) if first is not None else start
    parts, seq = [], 0
    while True:
        batch = log.read(seq, limit=READ_TOGETHER, columns=[*COLUMNS, "received_at"])
        events = batch.events
        if oldest is not None:
            recent = pc.greater_equal(events["received_at"], pa.scalar(oldest, TIMESTAMP))
            wanted = pc.not_equal(events["event_type"], "impression")
            events = events.filter(pc.or_(recent, wanted))
        parts.append(events.select(list(COLUMNS)))
        seq = batch.through_seq
        progress(seq, max(batch.head_seq, 1), "events")
        if seq >= batch.head_seq:
            return pa.concat_tables(parts)


def _decisions(
    database: Database, days: float, until: datetime, progress: Progress
) -> PageRecords | None:
    """Records of the period's pages, evenly thinned where there are many; None without any."""
    decisions = DecisionLog(database)
    end_ms = int(1000 * until.timestamp())
    span = DecisionSpan(end_ms - int(days * DAY_MS), end_ms + DAY_MS)
    count = decisions.count(span)
    every = -(-count // MOST_RECORDS)

    def some() -> Iterator[Decision]:
        for number, stored in enumerate(decisions.read(span)):
            if number % every == 0:
                progress(number, count, "decision records")
                yield opened(stored.record)

    return PageRecords.of(some()) if count else None


def _item_vectors(home: Home, dataset: Dataset) -> Float32 | None:
    """Of the live language model, for every item; None where there is none, or it lacks many."""
    try:
        artifact = ArtifactStore(home.artifacts).load(EMBEDDER)
    except NotFoundError:
        return None
    vectors = artifact.tensors["item_vectors"].astype(np.float32)
    rows = pc.index_in(
        dataset.items["item_id"], value_set=pa.array(artifact.strings["item_ids"], pa.string())
    )
    at = pc.fill_null(rows, -1).to_numpy().astype(np.int64)
    return np.where((at >= 0)[:, None], vectors[np.maximum(at, 0)], np.float32(0))
