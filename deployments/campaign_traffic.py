"""What campaigns can expect: how traffic spreads over the week, and whom it brings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmesh.deployments.current_campaigns import CampaignTerms
from recmesh.orchestrator.campaigns.reach import Audiences, Float64, room_per_day
from recmesh.orchestrator.campaigns.traffic_profile import HOUR_S, TrafficProfile
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import EVENTS
from recmesh.storage.recorded_traffic import RecordedTraffic
from recmesh.storage.unix_time import UNKNOWN_UNIX_S, unix_s

DAY_S = 86_400.0
WINDOW_S = 28 * DAY_S
"""How far back traffic is looked at."""
ENOUGH_S = 7 * DAY_S
"""Recorded traffic of so long a time speaks for itself; before, ingested traffic speaks."""


@dataclass(frozen=True)
class CampaignTraffic:
    """Past traffic, taken for what comes."""

    profile: TrafficProfile
    audiences: Audiences
    spans_a_week: bool
    """Less says too little of who comes."""

    def room_per_day(self, terms: CampaignTerms) -> Float64:
        """Impressions that each campaign could be given in a day, were it alone ``[campaigns]``;
        infinite while too little is known of who comes."""
        if not self.spans_a_week:
            return np.full(len(terms.book), np.inf)
        return room_per_day(terms.book, self.audiences, terms.caps_per_day)

    @classmethod
    def read(
        cls, dataset: Dataset, database: Database | None, now_unix_s: float, page_size: int
    ) -> CampaignTraffic:
        """From the impressions of four weeks.

        Those that the event log has, once they span a week; before, those that were ingested, of
        the four weeks before the last of them, and without any, ingested events of every kind.

        Args:
            dataset: with its users as they are now.
            database: with the event log; None: there is none yet.
            now_unix_s: the moment.
            page_size: impressions that make a page.

        Raises:
            UnavailableError: database or data set does not answer.
        """
        recorded = None
        if database is not None:
            recorded = RecordedTraffic.read(database, now_unix_s - WINDOW_S)
            span_s = recorded.last_unix_s - recorded.first_unix_s
            if span_s < ENOUGH_S and EVENTS.name in dataset.files:
                recorded = None
        if recorded is not None:
            hours = np.repeat(recorded.hours * HOUR_S, recorded.in_hour)
            whose = pa.array(recorded.user_ids, pa.string())
            rows = np.repeat(np.arange(len(whose)), recorded.of_user)
            shown = pa.table({"user_id": whose.take(pa.array(rows))})
            profile, span_s = TrafficProfile.of(hours), recorded.last_unix_s - recorded.first_unix_s
        else:
            profile, shown, span_s, page_size = _ingested(dataset, page_size)
        days = max(span_s / DAY_S, 1.0)
        audiences = Audiences.of(dataset.users, shown, days, page_size)
        return cls(profile, audiences, span_s >= ENOUGH_S)


def _ingested(dataset: Dataset, page_size: int) -> tuple[TrafficProfile, pa.Table, float, int]:
    """Profile, who came, over how many seconds, and how many rows make a page."""
    names = ["user_id", "event_type", "time"]
    if EVENTS.name in dataset.files:
        events = pq.read_table(dataset.files[EVENTS.name], columns=names)
    else:
        events = EVENTS.columns.empty_table().select(names)
    impressions = events.filter(pc.equal(events["event_type"], "impression"))
    if not impressions.num_rows:
        impressions, page_size = events, 1
    times = unix_s(impressions["time"], UNKNOWN_UNIX_S)
    last = int(times[-1]) if len(times) else 0
    lately = times > last - WINDOW_S
    times = times[lately]
    span_s = float(last - int(times[0])) if len(times) else 0.0
    return TrafficProfile.of(times), impressions.filter(pa.array(lately)), span_s, page_size
