"""The units of an experiment and what they did, from recorded events.

A unit is every doctor of whom an event of a page that took part is recorded, so also doctors who
wanted nothing of what they were shown. Arms are read from the events, never assigned again. A
campaign test's units are the campaigns that were assigned, because a campaign that does not take
part leaves no event of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.offline.experiments.effect import ARM
from recmesh.offline.experiments.unit_columns import BEFORE, PLURAL, POSITIVES, SLICES, UNKNOWN
from recmesh.orchestrator.experiments.assignment import assign
from recmesh.orchestrator.experiments.experiment import Experiment, ExperimentBook
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES
from recmesh.storage.recorded_arms import COUNTED, RecordedArms

DAY_MS = 86_400_000
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RecordedUnits:
    """Units, and what tells whether to believe them."""

    table: pa.Table
    """One row a unit: ``unit``, ``arm``, the columns of metrics and slices."""
    of_two_arms: int
    """Units that events give two arms; they are in no row."""
    policies: Mapping[str, Sequence[str]]
    """Versions of the policy that made the pages of each arm, as far as events tell."""
    first_unix_s: float
    """Of the first event; 0: there is none."""
    last_unix_s: float


def doctor_units(
    recorded: RecordedArms, dataset: Dataset, experiment: Experiment, before_days: float
) -> RecordedUnits:
    """The doctors of an experiment.

    Args:
        recorded: events.
        dataset: whose users give slices, and whose events were before the experiment, too.
        experiment: that is asked for.
        before_days: how long before its start covariates are counted.
    """
    events = recorded.events(experiment.name)
    arms_of = events.group_by("user_id").aggregate([("arm", "count_distinct"), ("arm", "min")])
    clear = arms_of.filter(pc.equal(arms_of["arm_count_distinct"], 1))
    units = clear["user_id"].combine_chunks().cast(pa.string())
    place = pc.index_in(events["user_id"], value_set=units).combine_chunks()
    known = pc.is_valid(place).to_numpy(zero_copy_only=False)
    rows = pc.fill_null(place, 0).to_numpy().astype(np.int64)[known]
    events = events.filter(pa.array(known))
    columns: dict[str, pa.Array | Int64 | Float64] = {"unit": units, ARM: clear["arm_min"]}
    columns |= _of_events(events, rows, len(units))
    starts_unix_s = experiment.starts_at.timestamp()
    since = starts_unix_s - before_days * 86_400
    before = recorded.counts(
        "user_id",
        units.to_pylist(),
        from_unix_s=since,
        to_unix_s=starts_unix_s,
        surfaces=experiment.surfaces,
    )
    ingested = _ingested(dataset.events, since, starts_unix_s, experiment.surfaces)
    columns |= _sums(pa.concat_tables([before, ingested]), units, BEFORE)
    columns |= _slices(dataset.users, units)
    return RecordedUnits(
        pa.table(columns), arms_of.num_rows - len(units), _policies(events), *_span(events)
    )


def _of_events(events: pa.Table, rows: Int64, units: int) -> dict[str, Int64 | Float64]:
    """Sums by unit ``[units]`` of events whose unit is ``rows[i]``."""
    kind = np.asarray(events["event_type"].to_pylist(), object)
    found: dict[str, Int64 | Float64] = {
        column: np.bincount(rows[kind == name], minlength=units) for name, column in PLURAL.items()
    }
    found[POSITIVES] = np.bincount(
        rows[np.isin(kind, sorted(POSITIVE_EVENT_TYPES))], minlength=units
    )
    found["dwell_s"] = np.bincount(rows, events["dwell_s"].to_numpy(), minlength=units)
    paid = (kind == "impression") & pc.not_equal(events["campaign_id"], "").to_numpy()
    found["sponsored"] = np.bincount(rows[paid], minlength=units)
    requests = events["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    days = events["time_ms"].to_numpy() // DAY_MS
    for name, of in (("pages", requests.astype(np.int64)), ("days", days)):
        pairs = np.unique(np.stack([rows, of], axis=1), axis=0)
        found[name] = np.bincount(pairs[:, 0], minlength=units)
    return found


def _ingested(
    events: pa.Table, from_unix_s: float, to_unix_s: float, surfaces: Sequence[str]
) -> pa.Table:
    """Ingested events of a time as :data:`~recmesh.storage.recorded_arms.COUNTED` has them."""
    at_ms = pc.cast(events["time"], pa.int64())
    wanted = pc.and_(
        pc.greater_equal(at_ms, int(1000 * from_unix_s)), pc.less(at_ms, int(1000 * to_unix_s))
    )
    if surfaces:
        wanted = pc.and_(wanted, pc.is_in(events["surface"], value_set=pa.array(list(surfaces))))
    some = events.filter(wanted)
    counted = pa.table(
        {
            "key": some["user_id"],
            "event_type": some["event_type"],
            "events": pa.array(np.ones(some.num_rows, np.int64)),
            "dwell_s": pc.fill_null(some["dwell_s"], 0).cast(pa.float64()),
            "sponsored": pc.not_equal(some["campaign_id"], "").cast(pa.int64()),
        }
    )
    return counted.cast(COUNTED)


def _sums(counted: pa.Table, units: pa.Array, suffix: str) -> dict[str, Int64 | Float64]:
    """Columns by unit of sums by key and event type."""
    rows = pc.index_in(counted["key"], value_set=units)
    counted = counted.filter(pc.is_valid(rows))
    at = pc.drop_null(rows).to_numpy().astype(np.int64)
    kind = np.asarray(counted["event_type"].to_pylist(), object)
    numbers = counted["events"].to_numpy()
    found: dict[str, Int64 | Float64] = {}
    for name, column in PLURAL.items():
        mine = kind == name
        found[f"{column}{suffix}"] = np.bincount(at[mine], numbers[mine], minlength=len(units))
    wanted = np.isin(kind, sorted(POSITIVE_EVENT_TYPES))
    found[f"{POSITIVES}{suffix}"] = np.bincount(at[wanted], numbers[wanted], minlength=len(units))
    found[f"dwell_s{suffix}"] = np.bincount(at, counted["dwell_s"].to_numpy(), minlength=len(units))
    shown = kind == "impression"
    found[f"sponsored{suffix}"] = np.bincount(
        at[shown], counted["sponsored"].to_numpy()[shown], minlength=len(units)
    )
    return found


def _slices(users: pa.Table, units: pa.Array) -> dict[str, pa.Array]:
    rows = pc.index_in(units, value_set=users["user_id"].combine_chunks())
    first = [of[0] if of else None for of in users["specialties"].to_pylist()]
    columns = (pa.array(first, pa.string()), users["country"], users["language"])
    found = {}
    for name, column in zip(SLICES, columns, strict=True):
        values = column.take(rows)
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        said = pc.if_else(pc.equal(values, ""), None, values)
        found[name] = pc.fill_null(said, UNKNOWN)
    return found


def _policies(events: pa.Table) -> dict[str, list[str]]:
    pairs = events.group_by(["arm", "policy_version"]).aggregate([]).to_pylist()
    found: dict[str, list[str]] = {}
    for pair in pairs:
        if pair["policy_version"]:
            found.setdefault(pair["arm"], []).append(pair["policy_version"])
    return {arm: sorted(versions) for arm, versions in sorted(found.items())}


def _span(events: pa.Table) -> tuple[float, float]:
    if not events.num_rows:
        return 0.0, 0.0
    ends = pc.min_max(events["time_ms"]).as_py()
    return ends["min"] / 1000, ends["max"] / 1000


def campaign_units(
    recorded: RecordedArms,
    dataset: Dataset,
    book: ExperimentBook,
    experiment: Experiment,
    until: datetime,
    before_days: float,
) -> RecordedUnits:
    """The campaigns of a test: events on their items, whoever showed them.

    An item of two campaigns counts for both.

    Args:
        recorded: events.
        dataset: with the campaigns.
        book: of all experiments.
        experiment: that is asked for.
        until: the first moment that does not count.
        before_days: how long before its start covariates are counted.
    """
    running = experiment.model_copy(update={"killed": False})
    alone = book.model_copy(update={"experiments": (running,)})
    begun = experiment.starts_at.timestamp()
    arms, items = {}, {}
    for campaign in dataset.campaigns.select(["campaign_id", "item_ids"]).to_pylist():
        arm = assign(alone, campaign["campaign_id"], begun, unit="campaign").get(experiment.name)
        if arm is not None:
            arms[campaign["campaign_id"]] = arm
            items[campaign["campaign_id"]] = campaign["item_ids"]
    links = [(campaign, item) for campaign, of in items.items() for item in of]
    units = pa.array(list(arms), pa.string())
    columns: dict[str, pa.Array | Int64 | Float64] = {
        "unit": units,
        ARM: pa.array(list(arms.values()), pa.string()),
    }
    start, before = experiment.starts_at, experiment.starts_at - timedelta(days=before_days)
    for suffix, since, to in (("", start, until), (BEFORE, before, start)):
        counted = recorded.counts(
            "item_id",
            {item for _, item in links},
            from_unix_s=since.timestamp(),
            to_unix_s=to.timestamp(),
        )
        columns |= _sums(_by_campaign(counted, links), units, suffix)
    end = min(until, datetime.now(UTC)).timestamp() if arms else 0.0
    return RecordedUnits(pa.table(columns), 0, {}, begun if arms else 0.0, end)


def _by_campaign(counted: pa.Table, links: Sequence[tuple[str, str]]) -> pa.Table:
    owners = pa.table(
        {
            "owner": pa.array([campaign for campaign, _ in links], pa.string()),
            "key": pa.array([item for _, item in links], pa.string()),
        }
    )
    joined = counted.join(owners, "key", join_type="inner").drop_columns(["key"])
    return joined.rename_columns({"owner": "key"}).select(COUNTED.names)
