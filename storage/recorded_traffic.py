"""How traffic came, from the impressions that the event log has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from recmesh.storage.database import Database
from recmesh.storage.event_tables import EVENTS

Int64 = npt.NDArray[np.int64]

HOUR_MS = 3_600_000
HOURS = 7 * 24


@dataclass(frozen=True, slots=True)
class RecordedTraffic:
    """Impressions from one moment on, by the clocks of clients."""

    first_unix_s: float
    """Of the first impression; 0 where there is none."""
    last_unix_s: float
    hours: Int64
    """Hours since 1970 modulo a week that have impressions ``[hours]``."""
    in_hour: Int64
    """Impressions in each of them."""
    user_ids: list[str]
    """Who had impressions ``[users]``."""
    of_user: Int64
    """Impressions of each."""

    @classmethod
    def read(cls, database: Database, after_unix_s: float) -> RecordedTraffic:
        """Counts what came after a moment. Blocks: call it in a thread.

        Raises:
            UnavailableError: the database does not answer.
        """
        hour = (EVENTS.c.time // HOUR_MS) % HOURS
        user, count = EVENTS.c.user_id, sa.func.count()
        wanted = (EVENTS.c.event_type == "impression") & (EVENTS.c.time > int(1000 * after_unix_s))
        ends = sa.select(sa.func.min(EVENTS.c.time), sa.func.max(EVENTS.c.time)).where(wanted)
        with database.reading() as connection:
            first_ms, last_ms = connection.execute(ends).one()
            by_hour = connection.execute(sa.select(hour, count).where(wanted).group_by(hour)).all()
            by_user = connection.execute(sa.select(user, count).where(wanted).group_by(user)).all()
        return cls(
            (first_ms or 0) / 1000,
            (last_ms or 0) / 1000,
            np.array([row[0] for row in by_hour], np.int64),
            np.array([row[1] for row in by_hour], np.int64),
            [row[0] for row in by_user],
            np.array([row[1] for row in by_user], np.int64),
        )
