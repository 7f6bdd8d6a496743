"""The columns of a page, from the catalog, the policy and what is known of the user."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.catalog import Catalog
from recmesh.orchestrator.slate.candidates import (
    Float32,
    Float64,
    Int32,
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


def slate_candidates(request: Admitted, rows: Int32, utility: Float32) -> SlateCandidates:
    """The candidates as the slate solver takes them.

    Args:
        request: what was asked.
        rows: catalog rows ``[n]``.
        utility: blended ``[n]``.
    """
    catalog, surface = request.catalog, request.surface
    boost = _by_item(catalog, rows, surface.boosts)
    pin_slot = _by_item(catalog, rows, surface.pins)
    matched = surface.slate.calibration_weight > 0
    return SlateCandidates(
        utility=utility,
        topics=catalog.topics.bits[rows],
        boost=None if boost is None else boost.astype(np.float32),
        blocked=np.isin(rows, catalog.rows(list(surface.blocks))) if surface.blocks else None,
        pin_slot=None if pin_slot is None else pin_slot.astype(np.int32),
        author=catalog.lead_author[rows],
        interests=interests(catalog, request.user) if matched else None,
    )
