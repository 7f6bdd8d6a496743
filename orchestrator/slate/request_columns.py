"""The columns of a page, from the catalog, the policy, campaigns, and what is known of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.orchestrator.campaigns.offers import NOBODY, Offers
from recmesh.orchestrator.catalog import Catalog
from recmesh.orchestrator.page_request import PageRequest
from recmesh.orchestrator.recent_impressions import Impression
from recmesh.orchestrator.slate.candidates import (
    Float32,
    Float64,
    Int32,
    Int64,
    SlateCandidates,
    TopicSets,
)
from recmesh.orchestrator.user_store import UserProfile
from recmesh.storage.interchange import EVENT_TYPES, POSITIVE_EVENT_TYPES

_POSITIVE = frozenset(EVENT_TYPES[name] for name in POSITIVE_EVENT_TYPES)


def interests(catalog: Catalog, user: UserProfile) -> Float32 | None:
    """Share of every topic bit in what the user engaged with ``[64 · n_words]``.

    An item counts for its topics in equal shares. None: nothing is known.
    """
    events = zip(user.history_item_ids, user.history_event_types, strict=True)
    rows = catalog.rows(list(dict.fromkeys(i for i, kind in events if kind in _POSITIVE)))
    bits = catalog.topics.bits[rows[rows >= 0]]
    topics = TopicSets(bits)
    if not len(topics.bit):
        return None
    share = np.zeros(64 * bits.shape[1], np.float32)
    shares = topics.has / np.maximum(topics.size, 1)[:, None]
    share[topics.bit] = shares.sum(axis=0) / shares.sum()
    return share


def _by_item(catalog: Catalog, rows: Int32, values: Mapping[str, float]) -> Float64 | None:
    """These items' values as a column ``[n]``, 0 for all others; None when there are none."""
    if not values:
        return None
    named = catalog.rows(list(values))
    return np.asarray((rows[:, None] == named) @ np.array(list(values.values()), np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """How often the user was shown what a page may have more of."""

    topics: Int32
    """Times that every topic bit was shown ``[64 · n_words]``."""
    authors: Int32
    """Times that each candidate's author was shown ``[n]``."""
    sponsors: Int32
    """Slots that each candidate's sponsor had ``[n]``."""


def _counted(codes: Int64, of: Int64) -> Int32:
    """How often each of ``of`` ``[n]`` is among ``codes``; 0 counts as nobody."""
    known, counts = np.unique(codes[codes != 0], return_counts=True)
    if not len(known):
        return np.zeros(len(of), np.int32)
    at = np.minimum(np.searchsorted(known, of), len(known) - 1)
    return np.where(known[at] == of, counts[at], 0).astype(np.int32)


def _recently(request: PageRequest, author: Int64, sponsor: Int64, offers: Offers) -> _Shown | None:
    """None: no rule asks, or the user was shown nothing of late."""
    rules = request.surface.slate
    caps = rules.max_per_topic_recently, rules.max_per_author_recently
    if caps == (None, None) and rules.max_per_sponsor_recently is None:
        return None
    since = request.now_unix_s - 3600 * rules.recently_h
    shown = [one for one in request.shown_lately if one.time_unix_s > since]
    if not shown:
        return None
    catalog = request.catalog
    # Who does not consent to personalisation is held to the sponsors' cap alone.
    own: Sequence[Impression] = shown if request.user.consents_personalisation else []
    return _counts(
        catalog,
        [one.item_id for one in own],
        [one.campaign_id for one in shown],
        author,
        sponsor,
        offers,
    )


def _counts(
    catalog: Catalog,
    item_ids: Sequence[str],
    campaign_ids: Sequence[str],
    author: Int64,
    sponsor: Int64,
    offers: Offers,
) -> _Shown:
    """How often these items' topics and authors, and these campaigns' sponsors, were shown."""
    book = offers.book
    rows = catalog.rows(list(item_ids))
    rows = rows[rows >= 0]
    topics = TopicSets(catalog.topics.bits[rows])
    of_topics = np.zeros(64 * catalog.topics.bits.shape[1], np.int32)
    of_topics[topics.bit] = topics.has.sum(axis=0).astype(np.int32)
    campaigns = np.array([book.row_of[i] for i in campaign_ids if i in book.row_of], np.int64)
    return _Shown(
        topics=of_topics,
        authors=_counted(catalog.lead_author[rows], author),
        sponsors=_counted(book.sponsor_code[campaigns], sponsor),
    )


def _dealt(request: PageRequest, author: Int64, sponsor: Int64, offers: Offers) -> _Shown | None:
    """What a session's slate holds already; None: nothing."""
    if not request.dealt:
        return None
    return _counts(
        request.catalog,
        [card.item_id for card in request.dealt],
        [card.campaign_id for card in request.dealt],
        author,
        sponsor,
        offers,
    )


def _added(one: Float64 | None, other: Float32 | None) -> Float32 | None:
    if one is None or other is None:
        return other if one is None else one.astype(np.float32)
    return (one + other).astype(np.float32)


def slate_candidates(
    request: PageRequest, rows: Int32, utility: Float32, offers: Offers
) -> SlateCandidates:
    """The candidates as the slate solver takes them.

    Args:
        request: what was asked.
        rows: catalog rows ``[n]``.
        utility: blended ``[n]``.
        offers: what campaigns would pay for; their prices are boosts.
    """
    catalog, surface = request.catalog, request.surface
    rules, author = surface.slate, catalog.lead_author[rows]
    pin_slot = _by_item(catalog, rows, surface.pins)
    sponsored, price, campaign, room = None, None, None, None
    sponsor = np.zeros(len(rows), np.int64)
    if len(offers):
        paid_by = offers.paying_for(rows)
        sponsored, price = paid_by != NOBODY, offers.prices_of(rows)
        campaign = paid_by.astype(np.int64) + 1
        room = np.where(sponsored, offers.room[paid_by], 0).astype(np.int32)
        sponsor = np.where(sponsored, offers.book.sponsor_code[paid_by], 0)
    recently = _recently(request, author, sponsor, offers)
    dealt = _dealt(request, author, sponsor, offers)
    explores = None
    if rules.exploration_slots:
        explores = catalog.popularity[rows] < rules.explores_below
    return SlateCandidates(
        utility=utility,
        topics=catalog.topics.bits[rows],
        boost=_added(_by_item(catalog, rows, surface.boosts), price),
        blocked=np.isin(rows, catalog.rows(list(surface.blocks))) if surface.blocks else None,
        pin_slot=None if pin_slot is None else pin_slot.astype(np.int32),
        author=author,
        sponsored=sponsored,
        sponsor=None if sponsored is None else sponsor,
        campaign=campaign,
        campaign_room=room,
        explores=explores,
        interests=interests(catalog, request.user) if rules.calibration_weight > 0 else None,
        topic_shown=recently.topics if recently else None,
        author_shown=recently.authors if recently else None,
        sponsor_shown=recently.sponsors if recently else None,
        topic_dealt=dealt.topics if dealt else None,
        author_dealt=dealt.authors if dealt else None,
        sponsor_dealt=dealt.sponsors if dealt else None,
    )
