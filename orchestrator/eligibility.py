"""Which candidates may be shown at all: kept, and removed with the reason.

Eligibility fails closed: an item whose licence cannot be matched with the user's country
is not shown where a licence is required.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.catalog import Catalog
from recmesh.orchestrator.user_store import UserProfile
from recmesh.v1 import recommendation_pb2

Int32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]

NOTHING: Int32 = np.zeros(0, np.int32)
FREQUENCY_CAP = "frequency-cap"
"""The rule by which a campaign that the user saw often enough is kept away."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """What became of the candidates."""

    kept: npt.NDArray[np.intp]
    """Positions of the candidates that are left, in the order given."""
    removed: dict[str, Int32]
    """Catalog rows by the first rule that removed them."""


def _rules(
    catalog: Catalog,
    rows: Int32,
    request: recommendation_pb2.RecommendRequest,
    user: UserProfile,
    country: str,
    now_unix_s: int,
    hide_seen: bool,
    capped: Int32,
) -> Iterator[tuple[str, Bool]]:
    """Every rule's name with the candidates it removes ``[len(rows)]``."""
    if request.exclude_item_ids:
        yield "excluded-by-caller", np.isin(rows, catalog.rows(list(request.exclude_item_ids)))
    if hide_seen:
        seen = (*user.history_item_ids, *user.connected_user_ids, user.user_id)
        yield "seen", np.isin(rows, catalog.rows(list(seen)))
    if len(capped):
        yield FREQUENCY_CAP, np.isin(rows, capped)
    yield "not-published-yet", catalog.published_unix_s[rows] > now_unix_s
    yield "expired", catalog.expires_unix_s[rows] <= now_unix_s
    yield (
        "not-licensed-in-country",
        ~catalog.countries.empty(rows) & ~catalog.countries.overlaps(rows, (country,)),
    )
    wanted = request.filter
    if wanted.content_types:
        yield (
            "filter.content_types",
            ~catalog.content_types.overlaps(rows, list(wanted.content_types)),
        )
    if wanted.specialties:
        yield "filter.specialties", ~catalog.specialties.overlaps(rows, list(wanted.specialties))
    if wanted.languages:
        yield "filter.languages", ~catalog.languages.overlaps(rows, list(wanted.languages))
    if wanted.topics:
        yield "filter.topics", ~catalog.topics.overlaps(rows, list(wanted.topics))
    published = catalog.published_unix_s[rows]
    if wanted.HasField("published_after"):
        yield "filter.published_after", published < wanted.published_after.seconds
    if wanted.HasField("published_before"):
        yield (
            "filter.published_before",
            (published >= wanted.published_before.seconds) | (published <= 0),
        )


def filter_candidates(
    catalog: Catalog,
    rows: Int32,
    request: recommendation_pb2.RecommendRequest,
    user: UserProfile,
    now_unix_s: int,
    *,
    hide_seen: bool = True,
    capped: Int32 = NOTHING,
) -> Filtered:
    """Applies every rule; the first that removes a candidate is its reason.

    A caller who re-ranks candidates of their own is not second-guessed about what the
    user has seen, which ``hide_seen`` removes otherwise; everything else applies. ``capped`` are
    rows whose campaigns the user was shown often enough.
    """
    kept = np.ones(len(rows), bool)
    removed: dict[str, Int32] = {}
    country = request.context.country or user.country
    hide = hide_seen and not request.candidate_item_ids
    for rule, drops in _rules(catalog, rows, request, user, country, now_unix_s, hide, capped):
        newly = drops & kept
        if newly.any():
            removed[rule] = rows[newly]
            kept &= ~newly
    return Filtered(np.flatnonzero(kept), removed)
