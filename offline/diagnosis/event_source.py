"""A serving log of events alone: recorded ones, or ingested ones where none were recorded.

Pages as they were answered and scores stay unknown: only decision records have them
(:mod:`recmesh.offline.diagnosis.decision_source`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recmesh.offline.diagnosis.decision_source import PageRecords, with_records
from recmesh.offline.diagnosis.serving_log import (
    DAY_S,
    NOTHING,
    Assignment,
    Bool,
    Doctors,
    Float32,
    Float64,
    Int64,
    Items,
    ServingLog,
    Slots,
    Traffic,
)
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.experiments.experiment import Experiment, ExperimentBook
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES
from recmesh.storage.unix_time import NEVER_UNIX_S, UNKNOWN_UNIX_S, unix_s

COLUMNS = (
    "user_id",
    "item_id",
    "event_type",
    "time",
    "surface",
    "rank",
    "request_id",
    "campaign_id",
    "counted",
    "experiment_arms",
)
"""Of events, recorded or ingested; what is ingested has no request and counts."""
WITHIN_S = 3600.0
"""A reaction without a token belongs to the last impression of its item this long before it."""
REACTIONS = POSITIVE_EVENT_TYPES - {"follow"}
"""A follow from a page names an author, not the item."""


@dataclass(frozen=True)
class Settings:
    """What to look at."""

    days: float = 14.0
    """Of the period, which ends with the last event."""
    asked_surfaces: tuple[str, ...] = ("search",)
    sponsored_share: float = 0.2
    experiments: ExperimentBook = field(default_factory=ExperimentBook)
    """Says which shares arms should have; experiments that it does not know are not judged."""


def ingested_events(dataset: Dataset) -> pa.Table:
    """A data set's events with :data:`COLUMNS`."""
    events = dataset.events
    rows = events.num_rows
    nothing = pa.repeat("", rows)
    return (
        events.append_column("request_id", nothing)
        .append_column("experiment_arms", nothing)
        .append_column("counted", pa.repeat(True, rows))
        .select(list(COLUMNS))
    )


def _codes(values: pa.ChunkedArray, known: Sequence[str]) -> Int64:
    """Rows of the values among the known ones; :data:`NOTHING` where they are not."""
    found = pc.index_in(values.combine_chunks(), value_set=pa.array(known, pa.string()))
    return np.asarray(pc.fill_null(found, NOTHING).to_numpy(zero_copy_only=False), np.int64)


def _incidence(column: pa.ChunkedArray, names: Sequence[str]) -> sparse.csr_matrix:
    """Lists of names as ones ``[rows, names]``; names that are not known are left out."""
    lists = column.combine_chunks()
    parents = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    code = _codes(pa.chunked_array([pc.list_flatten(lists)]), names)
    kept = code != NOTHING
    shape = (len(lists), max(len(names), 1))
    found = sparse.csr_matrix((np.ones(int(kept.sum())), (parents[kept], code[kept])), shape=shape)
    found.data[:] = 1.0
    return found


def _names(column: pa.ChunkedArray) -> list[str]:
    flat = pc.list_flatten(column.combine_chunks()) if pa.types.is_list(column.type) else column
    return sorted(name for name in pc.unique(flat).to_pylist() if name)


def _items(dataset: Dataset, specialties: list[str], vectors: Float32 | None) -> Items:
    items = dataset.items
    return Items(
        item_ids=items["item_id"].to_pylist(),
        topics=_incidence(items["topics"], _names(items["topics"])),
        specialties=_incidence(items["specialties"], specialties),
        published_unix_s=unix_s(items["published_at"], UNKNOWN_UNIX_S),
        expires_unix_s=unix_s(items["expires_at"], NEVER_UNIX_S),
        vectors=vectors,
    )


def _doctors(
    dataset: Dataset, user_ids: list[str], specialties: list[str], history: sparse.csr_matrix
) -> Doctors:
    """Described doctors first, then those who only acted."""
    users = dataset.users
    main = [row[0] if row else "" for row in users["specialties"].to_pylist()]
    countries = _names(users["country"])
    beyond = np.full(len(user_ids) - len(users), NOTHING, np.int64)
    return Doctors(
        user_ids=user_ids,
        specialty=np.concatenate(
            [_codes(pa.chunked_array([pa.array(main, pa.string())]), specialties), beyond]
        ),
        country=np.concatenate([_codes(users["country"], countries), beyond]),
        specialty_names=specialties,
        country_names=countries,
        history=history,
    )


@dataclass(frozen=True)
class _Events:
    """Events of known items, columnar, by ascending time."""

    doctor: Int64
    item: Int64
    unix_s: Float64
    shown: Bool
    wanted: Bool
    page: Int64
    """Code of the request; :data:`NOTHING`: no page is known."""
    surface: Int64
    rank: Int64
    campaign: Int64
    requests: list[str]
    """Ids of the codes."""


def _read(
    events: pa.Table,
    user_ids: list[str],
    item_ids: list[str],
    surfaces: list[str],
    book: CampaignBook,
) -> _Events:
    events = events.filter(
        pc.or_(pc.not_equal(events["event_type"], "impression"), events["counted"])
    )
    item = _codes(events["item_id"], item_ids)
    kind = events["event_type"]
    shown = pc.equal(kind, "impression").to_numpy()
    wanted = pc.is_in(kind, value_set=pa.array(sorted(REACTIONS))).to_numpy()
    kept = (item != NOTHING) & (shown | wanted)
    request = events["request_id"].combine_chunks().dictionary_encode()
    code = request.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    requests = request.dictionary.to_pylist()
    named = np.array([bool(name) for name in requests], bool)
    page = np.where(named[code] if len(named) else False, code, NOTHING)
    time = events["time"].cast(pa.int64()).to_numpy() / 1000.0
    order = np.argsort(time[kept], kind="stable")
    columns = {
        "doctor": _codes(events["user_id"], user_ids),
        "item": item,
        "unix_s": time,
        "shown": shown,
        "wanted": wanted,
        "page": page,
        "surface": _codes(events["surface"], surfaces),
        "rank": events["rank"].fill_null(0).to_numpy().astype(np.int64),
        "campaign": _codes(events["campaign_id"], book.campaign_ids),
    }
    ordered = {name: column[kept][order] for name, column in columns.items()}
    return _Events(requests=requests, **ordered)


def _clicked(events: _Events) -> Bool:
    """Whether each impression was reacted to ``[impressions]``.

    A reaction names its page by its token; without one it belongs to the last impression of the
    item that the doctor had within the hour before.
    """
    shown, wanted = np.flatnonzero(events.shown), np.flatnonzero(events.wanted)
    clicked = np.zeros(len(shown), bool)
    items = int(events.item.max(initial=0)) + 1
    of_page = events.page * items + events.item
    on_page = events.page[wanted] != NOTHING
    known = events.page[shown] != NOTHING
    clicked |= known & np.isin(of_page[shown], of_page[wanted[on_page]])
    key = events.doctor * items + events.item
    order = np.lexsort((events.unix_s[shown], key[shown]))
    sorted_keys, sorted_times = key[shown][order], events.unix_s[shown][order]
    # Keys and times as one ascending number: time within a key spans less than the period.
    start = float(events.unix_s.min(initial=0.0))
    span = float(events.unix_s.max(initial=0.0)) - start + 1.0
    places = sorted_keys * span + (sorted_times - start)
    loose = wanted[~on_page]
    at = np.searchsorted(places, key[loose] * span + (events.unix_s[loose] - start), "right") - 1
    fits = at >= 0
    at = np.maximum(at, 0)
    if len(order):
        fits &= sorted_keys[at] == key[loose]
        fits &= events.unix_s[loose] - sorted_times[at] <= WITHIN_S
        clicked[order[at[fits]]] = True
    return clicked


def _assignments(
    events: pa.Table, start: float, user_ids: list[str], book: ExperimentBook
) -> Iterator[Assignment]:
    """Who had which arm first in the period, of A/B tests of doctors."""
    took_part = pc.and_(
        pc.not_equal(events["experiment_arms"], ""), pc.equal(events["event_type"], "impression")
    )
    some = events.filter(took_part)
    recent = some["time"].cast(pa.int64()).to_numpy() >= 1000 * start
    seen = some.filter(pa.array(recent)).sort_by("time")
    encoded = seen["experiment_arms"].combine_chunks().dictionary_encode()
    arms = [json.loads(text) for text in encoded.dictionary.to_pylist()]
    code = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    doctor = _codes(seen["user_id"], user_ids)
    for experiment in book.experiments:
        if experiment.kind != "ab" or experiment.unit != "doctor":
            continue
        yield _assignment(experiment, doctor, code, arms)


def _assignment(
    experiment: Experiment, doctor: Int64, code: Int64, arms: list[dict[str, str]]
) -> Assignment:
    names = [arm.name for arm in experiment.arms]
    of_text = [
        names.index(a) if (a := said.get(experiment.name)) in names else NOTHING for said in arms
    ]
    arm = np.array(of_text, np.int64)[code] if arms else np.zeros(0, np.int64)
    within = arm != NOTHING
    distinct, first = np.unique(doctor[within], return_index=True)
    shares = {one.name: one.share for one in experiment.arms}
    return Assignment(experiment.name, shares, arm[within][first], distinct)


def serving_log(
    dataset: Dataset,
    events: pa.Table,
    settings: Settings,
    vectors: Float32 | None = None,
    history: pa.Table | None = None,
    records: PageRecords | None = None,
) -> ServingLog:
    """The last days of a log of events.

    Args:
        dataset: items, users and campaigns as they are now.
        events: with :data:`COLUMNS`, in any order.
        settings: what to look at.
        vectors: of the items ``[items, dim]``.
        history: more events that happened before, with the same columns.
        records: pages as they were answered.

    Raises:
        DataError: there is no impression of a known item.
    """
    book = CampaignBook.of(dataset.campaigns)
    item_ids = dataset.items["item_id"].to_pylist()
    described = dataset.users["user_id"].to_pylist()
    events = events.select(list(COLUMNS))
    before = events.slice(0, 0) if history is None else history.select(list(COLUMNS))
    acted = pc.unique(pa.concat_tables([events, before])["user_id"].combine_chunks()).to_pylist()
    pages = records.pages if records else []
    everybody = {*acted, *(page.user_id for page in pages)}
    user_ids = described + sorted(everybody - set(described))
    # Of a surface whose pages are all empty, no impression tells.
    surfaces = sorted({*pc.unique(events["surface"]).to_pylist(), *(p.surface for p in pages)})
    found = _read(events, user_ids, item_ids, surfaces, book)
    if not found.shown.any():
        raise DataError("no impression of a known item was recorded or ingested")
    moments = found.unix_s[found.shown]
    end = float(moments[-1])
    start = max(end - settings.days * DAY_S, float(moments[0]))
    specialties = sorted(
        {*_names(dataset.users["specialties"]), *_names(dataset.items["specialties"])}
    )
    earlier = _read(before, user_ids, item_ids, surfaces, book)
    past = [
        (part.doctor, part.item, part.wanted & (part.unix_s < start)) for part in (found, earlier)
    ]
    turned = sparse.csr_matrix(
        (
            np.ones(sum(int(kept.sum()) for _, _, kept in past)),
            (
                np.concatenate([doctor[kept] for doctor, _, kept in past]),
                np.concatenate([item[kept] for _, item, kept in past]),
            ),
        ),
        shape=(len(user_ids), len(item_ids)),
    )
    turned.data[:] = 1.0
    shown = np.flatnonzero(found.shown)
    within = found.unix_s[shown] >= start
    at = shown[within]
    running = (book.ends_unix_s > start) & (book.starts_unix_s < end)
    since = min(start, float(book.starts_unix_s[running].min(initial=int(start))))
    reached = shown[found.unix_s[shown] >= since]
    log = ServingLog(
        start_unix_s=start,
        end_unix_s=end,
        surfaces=surfaces,
        asked=np.array([name in settings.asked_surfaces for name in surfaces], bool),
        doctors=_doctors(dataset, user_ids, specialties, turned),
        items=_items(dataset, specialties, vectors),
        slots=Slots(
            doctor=found.doctor[at],
            item=found.item[at],
            unix_s=found.unix_s[at],
            surface=found.surface[at],
            rank=found.rank[at],
            clicked=_clicked(found)[within],
            campaign=found.campaign[at],
            scores=np.zeros((len(at), 0), np.float32),
        ),
        campaigns=book,
        traffic=Traffic(found.doctor[reached], found.unix_s[reached], found.campaign[reached]),
        assignments=tuple(_assignments(events, start, user_ids, settings.experiments)),
        sponsored_share=settings.sponsored_share,
    )
    if records is None:
        return log
    ids = [found.requests[code] if code != NOTHING else "" for code in found.page[at].tolist()]
    return with_records(log, records, ids)
