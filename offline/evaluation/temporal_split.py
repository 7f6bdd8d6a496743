"""The global temporal split: everybody's past is before one moment, the test after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.models.interactions import Interactions, read_interactions
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.storage.interchange import TIMESTAMP

TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1


@dataclass(frozen=True)
class EarlierDataset(Dataset):
    """A data set as it was known before a moment.

    Items and users are all there, as a catalog is known before anybody acts on it; events
    and dated edges at or after ``moment`` are not. Edges of unknown age are old.
    """

    moment: datetime

    @classmethod
    def of(cls, dataset: Dataset, moment: datetime) -> EarlierDataset:
        """``dataset`` before ``moment``."""
        return cls(dataset.version, dataset.files, moment, overlay=dataset.overlay)

    @cached_property
    def events(self) -> pa.Table:
        """Events before the moment, by ascending time."""
        events = Dataset(self.version, self.files, overlay=self.overlay).events
        return events.filter(pc.less(events["time"], pa.scalar(self.moment, TIMESTAMP)))

    @cached_property
    def edges(self) -> pa.Table:
        """Edges made before the moment, in ingestion order."""
        edges = Dataset(self.version, self.files, overlay=self.overlay).edges
        old = pc.less(edges["created_at"], pa.scalar(self.moment, TIMESTAMP))
        return edges.filter(pc.fill_null(old, True))


def _moment(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def quantile_moment(events: Interactions, last: float) -> datetime:
    """When the ``last`` fraction of the events begins.

    Raises:
        DataError: no event lies before that moment, so there is nothing to learn from.
    """
    if not len(events):
        raise DataError("no positive event on a known item: nothing to evaluate on")
    moment = int(events.times_unix_s[min(int(len(events) * (1 - last)), len(events) - 1)])
    if events.times_unix_s[0] >= moment:
        raise DataError(f"all events before the last {last:.0%} happened at one moment: no split")
    return _moment(moment)


@dataclass(frozen=True, slots=True)
class TemporalSplit:
    """Training ends where validation starts; validation ends where the test starts."""

    validation_start: datetime
    test_start: datetime
    end: datetime
    """Just after the last event."""

    @classmethod
    def of(cls, dataset: Dataset) -> TemporalSplit:
        """By positive events: the last 20% by time are the test, the 10% before it validation.

        Raises:
            DataError: there are too few moments to split at.
        """
        events = read_interactions(dataset)
        validation = quantile_moment(events, TEST_FRACTION + VALIDATION_FRACTION)
        test = quantile_moment(events, TEST_FRACTION)
        if validation == test:
            raise DataError("validation and test would start at the same moment: no split")
        return cls(validation, test, _moment(int(events.times_unix_s[-1]) + 1))
