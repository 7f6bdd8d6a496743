"""What doctors see and do, one day at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recmesh.offline.world.campaigns import Campaigns
from recmesh.offline.world.catalogue import Catalogue
from recmesh.offline.world.columns import joined, named, numbered
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.group_sampler import GroupSampler
from recmesh.offline.world.lexicon import TOPICS
from recmesh.offline.world.population import Population
from recmesh.offline.world.truth import Truth
from recmesh.storage.interchange import EVENTS

SOURCES = {"popular": 0.25, "fresh": 0.15, "topical": 0.35, "colleagues": 0.1, "random": 0.15}
"""The logging policy: what fills a slot, and how often."""

SPARE = 6
"""Extra draws a slate, in place of repeats and items that may not be shown."""

SPONSORED_RATE = 0.3
"""Share of a campaign's eligible sessions in which its item takes one slot."""

REACTIONS = {"dwell": 0.85, "save": 0.12, "share": 0.05, "dismiss": 0.04}
"""Probability of each event after a click."""

SEARCH_RATE = 0.15
"""Searches a session."""

Ints = NDArray[np.int64]


class Simulation:
    """Runs a world's days in order; the same arguments give the same events."""

    def __init__(
        self,
        config: WorldConfig,
        catalogue: Catalogue,
        population: Population,
        campaigns: Campaigns,
        truth: Truth,
        rng: np.random.Generator,
    ) -> None:
        self._config, self._catalogue, self._population = config, catalogue, population
        self._campaigns, self._truth, self._rng = campaigns, truth, rng
        self._by_time = np.argsort(catalogue.published, kind="stable")
        self._times = catalogue.published[self._by_time]
        weight = np.exp(truth.popularity.astype(np.float64))
        everything = np.zeros(len(weight), np.int64)
        self._popular = GroupSampler(everything, weight, catalogue.published)
        self._topical = GroupSampler(catalogue.topic, weight, catalogue.published)
        edges = population
        self._peers = GroupSampler(edges.source, np.ones(len(edges.source)), edges.created)
        self._last_click = np.full(config.doctors, -1, np.int64)
        self._left = campaigns.budget.copy()
        self._count = 0
        self._item_ids = catalogue.table["item_id"].combine_chunks()
        self._user_ids = population.table["user_id"].combine_chunks()

    def run(self) -> Iterator[pa.Table]:
        """Events of each day, by ascending time."""
        for day in range(self._config.days):
            yield self._day(day)

    def _candidates(self, users: Ints, times: NDArray[np.float64]) -> Ints:
        rng, shape = self._rng, users.shape
        source = rng.choice(len(SOURCES), shape, p=list(SOURCES.values()))
        published = np.searchsorted(self._times, times, side="right")
        fresh = np.maximum(published - rng.geometric(0.02, shape), 0)
        anything = (rng.random(shape) * published).astype(np.int64)
        topic = self._population.topic[users]
        wandering = rng.random(shape) < 0.4
        sibling = topic // 4 * 4 + rng.integers(0, 4, shape)  # four topics a specialty
        topical = self._topical.draw(np.where(wandering, sibling, topic), times, rng)
        peer = self._peers.draw(users, times, rng)
        peer = np.where(peer >= 0, self._population.target[peer], -1)
        seen = np.where(peer >= 0, self._last_click[peer], -1)
        drawn = (
            self._popular.draw(np.zeros(shape, np.int64), times, rng),
            np.where(published > 0, self._by_time[fresh], -1),
            topical,
            np.where(seen >= 0, seen, topical),
            np.where(published > 0, self._by_time[anything], -1),
        )
        return np.choose(source, drawn)

    def _showable(self, items: Ints, users: Ints, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        licensed = self._catalogue.country[items] >> self._population.country[users] & 1
        in_time = self._catalogue.published[items] <= times
        in_time &= self._catalogue.expires[items] > times
        return np.asarray((items >= 0) & (licensed == 1) & in_time, np.bool_)

    def _slates(
        self, users: Ints, times: NDArray[np.float64]
    ) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Items ``[sessions, drawn]``, campaigns (-1: none), and which of them are shown."""
        shape = (len(users), self._config.slots + SPARE)
        user, time = np.broadcast_to(users[:, None], shape), np.broadcast_to(times[:, None], shape)
        items = self._candidates(user, time)
        campaign = np.full(shape, -1, np.int64)
        c = self._campaigns
        willing = self._population.consents_sponsored[users]
        for row, own in enumerate(c.items):
            match = willing & (self._population.specialty[users] == c.specialty[row])
            match &= (times >= c.starts[row]) & (times < c.ends[row]) & (campaign[:, 2] < 0)
            match &= self._rng.random(len(users)) < SPONSORED_RATE
            at = np.flatnonzero(match)
            offer = self._rng.choice(own, len(at))
            allowed = self._showable(offer, users[at], times[at])
            at, offer = at[allowed][: self._left[row]], offer[allowed][: self._left[row]]
            self._left[row] -= len(at)
            # The paid item keeps its slot: the organic draws of it go.
            items[at] = np.where(items[at] == offer[:, None], -1, items[at])
            items[at, 2], campaign[at, 2] = offer, row
        order = np.argsort(items, axis=1, kind="stable")
        ordered = np.take_along_axis(items, order, axis=1)
        first = np.ones(shape, bool)
        np.put_along_axis(first, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
        shown = first & self._showable(items, user, time)
        shown &= np.cumsum(shown, axis=1) <= self._config.slots
        return items, campaign, shown

    def _day(self, day: int) -> pa.Table:
        rng = self._rng
        users = np.repeat(np.arange(self._config.doctors), rng.poisson(self._population.activity))
        begins = day + rng.uniform(0.25, 0.95, len(users))
        items, campaign, shown = self._slates(users, begins)
        session, column = np.nonzero(shown)
        rank = np.cumsum(shown, axis=1, dtype=np.int64)[session, column]
        user, item, time = users[session], items[session, column], begins[session]
        paid = campaign[session, column]
        clicked = rng.random(len(user)) < self._truth.click_probability(user, item, rank, time)
        second = 1 / 86_400
        parts = [self._rows("impression", user, item, time, rank, paid)]
        user, item, rank, paid = user[clicked], item[clicked], rank[clicked], paid[clicked]
        time = time[clicked] + rank * 3 * second
        parts.append(self._rows("click", user, item, time, rank, paid))
        self._last_click[user] = item
        none = np.full(len(user), -1, np.int64)
        for kind, chance in REACTIONS.items():
            happens = rng.random(len(user)) < chance
            seconds = rng.lognormal(4.0 + 0.3 * self._truth.quality[item], 0.8)
            seconds = np.minimum(seconds, 1800.0)
            later = time + (seconds + 1) * second
            part = self._rows(kind, user, item, later, rank, none).filter(pa.array(happens))
            if kind == "dwell":
                dwell = pa.array(seconds[happens].astype(np.float32))
                part = part.set_column(part.schema.get_field_index("dwell_s"), "dwell_s", dwell)
            parts.append(part)
        parts += [self._follows(day), self._searches(users, begins)]
        events = pa.concat_tables(parts).sort_by("time")
        start, self._count = self._count, self._count + events.num_rows
        ids = numbered(f"w{self._config.seed}-", start, self._count, 6)
        return events.set_column(0, EVENTS.columns.field("event_id"), ids)

    def _rows(
        self,
        kind: str,
        user: Ints,
        item: Ints | pa.Array,
        time: NDArray[np.float64],
        rank: Ints,
        paid: Ints,
        surface: str = "feed",
        query: pa.Array | None = None,
    ) -> pa.Table:
        n = len(user)
        names = self._campaigns.table["campaign_id"].to_pylist()
        ids = item if isinstance(item, pa.Array) else self._item_ids.take(pa.array(item))
        columns = {
            "event_id": pa.nulls(n, pa.string()),
            "user_id": self._user_ids.take(pa.array(user)),
            "item_id": ids,
            "event_type": pa.repeat(kind, n),
            "time": self._config.timestamps(time),
            "surface": pa.repeat(surface, n),
            "rank": pa.array(rank.astype(np.int32)),
            "dwell_s": pa.nulls(n, pa.float32()),
            "rating": pa.nulls(n, pa.float32()),
            "query": query if query is not None else pa.repeat("", n),
            "campaign_id": named(names, paid),
        }
        return pa.table(columns, schema=EVENTS.columns)

    def _follows(self, day: int) -> pa.Table:
        p = self._population
        now = p.follow & (p.created >= day) & (p.created < day + 1)
        none = np.zeros(int(now.sum()), np.int64)
        target = self._user_ids.take(pa.array(p.target[now]))
        return self._rows(
            "follow", p.source[now], target, p.created[now], none, none - 1, "network"
        )

    def _searches(self, users: Ints, begins: NDArray[np.float64]) -> pa.Table:
        asks = self._rng.random(len(users)) < SEARCH_RATE
        user, none = users[asks], np.zeros(int(asks.sum()), np.int64)
        # A search names the favourite topic and one of its other terms.
        topic = self._population.topic[user]
        first = named([t.name for t in TOPICS], topic)
        others = [term for t in TOPICS for term in t.terms[1:]]
        per = len(others) // len(TOPICS)
        query = joined(
            first, " ", named(others, topic * per + self._rng.integers(0, per, len(user)))
        )
        empty = pa.repeat("", len(user))
        return self._rows(
            "search", user, empty, begins[asks] - 1e-3, none, none - 1, "search", query
        )
