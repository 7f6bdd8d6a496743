"""Decisions as bytes, and back: columnar, compressed, and complete.

A record brings the rows of the catalog that it speaks of, so that nothing else is needed to choose
its page again. Candidates are its first rows, in the order in which they were retrieved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from recmesh.orchestrator.blend import ScoreMatrix
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import Hold, HoldAttempt, WantedSlot
from recmesh.orchestrator.campaigns.offers import NOBODY, Offers
from recmesh.orchestrator.campaigns.sponsored_slate import SponsoredSlate
from recmesh.orchestrator.catalog import Catalog, Int64, TermSets, unpacked
from recmesh.orchestrator.decisions.decision import Considered, Decision
from recmesh.orchestrator.decisions.recorded_catalog import RecordedCatalog
from recmesh.orchestrator.eligibility import FREQUENCY_CAP, Filtered
from recmesh.orchestrator.page_request import PageRequest
from recmesh.orchestrator.policy import SurfacePolicy
from recmesh.orchestrator.recent_impressions import Impression
from recmesh.orchestrator.retrieval import Candidates
from recmesh.orchestrator.scoring import Scores
from recmesh.orchestrator.swipe.session import DealtCard
from recmesh.orchestrator.user_store import UserProfile
from recmesh.storage.compressed_record import compressed, decompressed
from recmesh.storage.errors import DataError
from recmesh.v1 import campaign_ledger_pb2, decision_log_pb2, decision_record_pb2

Int32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]

_STATUS = {hold: campaign_ledger_pb2.HoldStatus.Value(f"HOLD_STATUS_{hold.name}") for hold in Hold}
_HOLD = {status: hold for hold, status in _STATUS.items()}
_NO_WAITS = {"source_timeout_s": 1.0, "deadline_s": 1.0}
"""Of a surface: nothing is waited for when a page is chosen again."""
_PROFILE = (
    "user_id",
    "known",
    "country",
    "language",
    "consents_personalisation",
    "consents_sponsored",
)
_PROFILE_LISTS = (
    "specialties",
    "history_item_ids",
    "history_event_types",
    "history_times_unix_s",
    "connected_user_ids",
)


def sealed(decision: Decision) -> decision_log_pb2.SealedDecision:
    """The decision on its way to the log."""
    considered = decision.considered
    request = considered.request
    return decision_log_pb2.SealedDecision(
        decision_id=considered.decision_id,
        request_id=request.asked_as,
        user_id=request.message.user_id,
        surface=request.message.surface,
        made_at_unix_ms=considered.made_at_unix_ms,
        of_users=request.surface.universe == "users",
        record=compressed(_record(decision)),
    )


def opened(record: bytes) -> Decision:
    """The decision that a record holds.

    Raises:
        DataError: the bytes are not a record, or one whose policy this release does not know.
    """
    return _decision(decompressed(record))


def _record(decision: Decision) -> decision_record_pb2.DecisionRecord:
    considered, slate = decision.considered, decision.slate
    request, candidates = considered.request, considered.candidates
    places = _Places(candidates.rows)
    rows = np.concatenate([candidates.rows, _rows_spoken_of(request, places)])
    kept = candidates.rows[considered.filtered.kept]
    record = decision_record_pb2.DecisionRecord(
        decision_id=considered.decision_id,
        made_at_unix_ms=considered.made_at_unix_ms,
        request=request.message,
        request_id=request.request_id,
        now_unix_s=request.now_unix_s,
        drafted_for=request.drafted_for,
        offset=request.offset,
        page_size=request.page_size,
        card=request.card,
        surface_policy=request.surface.model_dump_json(exclude={"front", *_NO_WAITS}),
        preferences=request.preferences,
        catalog=_catalog_record(request.catalog, rows),
        candidates=len(candidates.rows),
        kept=considered.filtered.kept.astype("<i4").tobytes(),
        request_scores=_scores_record(considered.scores.of_request),
        user_scores=_scores_record(considered.scores.of_user),
        chosen=slate.chosen.astype("<i4").tobytes(),
        propensities=slate.propensity.astype("<f8").tobytes(),
        chance_losses=slate.chance_loss.astype("<f8").tobytes(),
        refused=slate.refused.astype("<i4").tobytes(),
        relaxed=slate.relaxed,
        organic_loss=slate.organic_loss,
    )
    record.answer.CopyFrom(decision.answer)
    for field in ("recommendations", "attribution_token", "facets"):
        record.answer.ClearField(field)
    user = request.user
    for name in _PROFILE:
        setattr(record.user, name, getattr(user, name))
    for name in _PROFILE_LISTS:
        getattr(record.user, name).extend(getattr(user, name))
    for shown in request.shown_lately:
        record.shown_lately.add(
            item_id=shown.item_id,
            campaign_id=shown.campaign_id,
            request_id=shown.request_id,
            time_unix_s=shown.time_unix_s,
        )
    for card in request.dealt:
        record.dealt.add(item_id=card.item_id, campaign_id=card.campaign_id)
    for source, proposed in candidates.proposed.items():
        record.proposals.add(source=source, rows=places.of(proposed))
    for rule, removed in considered.filtered.removed.items():
        record.removals.add(rule=rule, rows=places.of(removed))
    _write_offers(record, considered, kept)
    for attempt in decision.attempts:
        written = record.attempts.add(unanswered=attempt.holds is None)
        for slot in attempt.wanted:
            written.slots.add(item_id=slot.item_id, campaign_id=slot.campaign_id)
        written.statuses.extend(_STATUS[hold] for hold in attempt.holds or ())
    return record


def _rows_spoken_of(request: PageRequest, candidates: _Places) -> Int32:
    """Catalog rows of what the user saw and did, but for the candidates."""
    also = [*request.user.history_item_ids]
    also += [shown.item_id for shown in request.shown_lately]
    also += [card.item_id for card in request.dealt]
    rows = np.unique(request.catalog.rows(also))
    return rows[(rows >= 0) & ~candidates.have(rows)]


class _Places:
    """Where catalog rows are among a record's."""

    def __init__(self, rows: Int32) -> None:
        """``rows`` are distinct."""
        self._order = np.argsort(rows, kind="stable")
        self._sorted = rows[self._order]

    def have(self, rows: Int32) -> Bool:
        """Which of the rows are there ``[len(rows)]``."""
        if not len(self._sorted):
            return np.zeros(len(rows), np.bool_)
        at = np.searchsorted(self._sorted, rows)
        return np.asarray(self._sorted[np.minimum(at, len(self._sorted) - 1)] == rows, np.bool_)

    def of(self, rows: Int32) -> bytes:
        """Their places, as they are recorded; all must be there."""
        return self._order[np.searchsorted(self._sorted, rows)].astype("<i4").tobytes()


def _catalog_record(catalog: Catalog, rows: Int32) -> decision_record_pb2.RecordedCatalog:
    """The catalog's ``rows``, in this order."""
    return decision_record_pb2.RecordedCatalog(
        version=catalog.version,
        item_ids=[catalog.item_ids[row] for row in rows.tolist()],
        content_types=_terms_record(catalog.content_types, rows),
        topics=_terms_record(catalog.topics, rows),
        specialties=_terms_record(catalog.specialties, rows),
        countries=_terms_record(catalog.countries, rows),
        languages=_terms_record(catalog.languages, rows),
        lead_authors=_small_codes(catalog.lead_author[rows]).astype("<i4").tobytes(),
        published_unix_s=catalog.published_unix_s[rows].astype("<i8").tobytes(),
        expires_unix_s=catalog.expires_unix_s[rows].astype("<i8").tobytes(),
        popularity=catalog.popularity[rows].astype("<f4").tobytes(),
        novelty=catalog.novelty[rows].astype("<f4").tobytes(),
    )


def _small_codes(authors: Int64) -> Int64:
    """Equal where the authors are, and 0 where they are: nothing else counts, and small numbers
    take less room."""
    _, codes = np.unique(np.append(authors, 0), return_inverse=True)
    return np.where(codes[:-1] == codes[-1], 0, codes[:-1] + 1).astype(np.int64)


def _terms_record(terms: TermSets, rows: Int32) -> decision_record_pb2.RecordedTerms:
    bits = terms.bits[rows]
    some = np.bitwise_or.reduce(bits, axis=0)
    names = terms.names
    return decision_record_pb2.RecordedTerms(
        words=bits.shape[1],
        bits=bits.astype("<u8").tobytes(),
        terms={bit: names[bit] for bit in np.flatnonzero(unpacked(some)).tolist()},
    )


def _scores_record(scores: ScoreMatrix) -> decision_record_pb2.RecordedScores:
    return decision_record_pb2.RecordedScores(
        scorers=scores.scorers,
        values=scores.values.astype("<f4").tobytes(),
        mask=np.packbits(scores.mask).tobytes(),
    )


def _write_offers(
    record: decision_record_pb2.DecisionRecord, considered: Considered, kept: Int32
) -> None:
    offers, request = considered.offers, considered.request
    book = offers.book
    paying = offers.paying_for(kept)
    named = [shown.campaign_id for shown in request.shown_lately]
    named += [card.campaign_id for card in request.dealt]
    used = np.unique(
        [*paying[paying != NOBODY], *(book.row_of[one] for one in named if one in book.row_of)]
    ).astype(np.int64)
    for row in used.tolist():
        record.campaigns.add(
            campaign_id=book.campaign_ids[row],
            sponsor=book.sponsors[row],
            value=float(book.value[row]),
            room=int(offers.room[row]) if len(offers.room) else 0,
        )
    place = np.where(paying == NOBODY, NOBODY, np.searchsorted(used, paying))
    record.paying = place.astype("<i4").tobytes()
    record.prices = offers.prices_of(kept).astype("<f4").tobytes()


def _decision(record: decision_record_pb2.DecisionRecord) -> Decision:
    try:
        surface = SurfacePolicy.model_validate(json.loads(record.surface_policy) | _NO_WAITS)
    except (ValueError, ValidationError) as error:
        raise DataError(
            f"decision {record.request_id} was made by a policy that this release cannot read: "
            f"{error}"
        ) from error
    catalog = _catalog(record.catalog)
    rows = np.arange(record.candidates, dtype=np.int32)
    kept = _array(record.kept, "<i4").astype(np.intp)
    removed = {one.rule: _array(one.rows, "<i4") for one in record.removals}
    request = PageRequest(
        message=record.request,
        request_id=record.request_id,
        surface=surface,
        catalog=catalog,
        user=_profile(record.user),
        now_unix_s=record.now_unix_s,
        drafted_for=record.drafted_for,
        offset=record.offset,
        page_size=record.page_size,
        preferences=dict(record.preferences),
        shown_lately=[
            Impression(one.item_id, one.campaign_id, one.request_id, one.time_unix_s)
            for one in record.shown_lately
        ],
        card=record.card,
        dealt=[DealtCard(one.item_id, one.campaign_id) for one in record.dealt],
    )
    offers = _offers(record, rows[kept], removed)
    considered = Considered(
        request=request,
        candidates=Candidates(
            rows, {one.source: _array(one.rows, "<i4") for one in record.proposals}
        ),
        filtered=Filtered(kept, removed),
        scores=Scores(
            _scores(record.request_scores, len(kept)), _scores(record.user_scores, len(kept))
        ),
        offers=offers,
        decision_id=record.decision_id,
        made_at_unix_ms=record.made_at_unix_ms,
    )
    slate = SponsoredSlate(
        chosen=_array(record.chosen, "<i4"),
        relaxed=tuple(record.relaxed),
        paid_by=offers.paying_for(rows[kept]),
        propensity=_array(record.propensities, "<f8"),
        chance_loss=_array(record.chance_losses, "<f8"),
        refused=_array(record.refused, "<i4"),
        organic_loss=record.organic_loss,
    )
    return Decision(considered, _attempts(record.attempts), slate, record.answer)


def _array(raw: bytes, kind: str) -> npt.NDArray[Any]:
    return np.frombuffer(raw, kind).astype(np.dtype(kind).newbyteorder("="))


def _profile(user: decision_record_pb2.RecordedUser) -> UserProfile:
    fields: dict[str, Any] = {name: getattr(user, name) for name in _PROFILE}
    fields |= {name: tuple(getattr(user, name)) for name in _PROFILE_LISTS}
    return UserProfile(**fields)


def _catalog(record: decision_record_pb2.RecordedCatalog) -> RecordedCatalog:
    n = len(record.item_ids)
    return RecordedCatalog(
        version=record.version,
        item_ids=list(record.item_ids),
        titles=[],
        content_types=_terms(record.content_types, n),
        topics=_terms(record.topics, n),
        specialties=_terms(record.specialties, n),
        countries=_terms(record.countries, n),
        languages=_terms(record.languages, n),
        off_label=TermSets({}, np.zeros((n, 1), np.uint64)),
        sponsors=[],
        lead_author=_array(record.lead_authors, "<i4").astype(np.int64),
        published_unix_s=_array(record.published_unix_s, "<i8"),
        expires_unix_s=_array(record.expires_unix_s, "<i8"),
        popularity=_array(record.popularity, "<f4"),
        recorded_novelty=_array(record.novelty, "<f4"),
    )


def _terms(record: decision_record_pb2.RecordedTerms, n: int) -> TermSets:
    bits = _array(record.bits, "<u8").reshape(n, record.words)
    return TermSets({term: bit for bit, term in record.terms.items()}, bits)


def _scores(record: decision_record_pb2.RecordedScores, n: int) -> ScoreMatrix:
    shape = n, len(record.scorers)
    mask = np.unpackbits(np.frombuffer(record.mask, np.uint8), count=n * len(record.scorers))
    return ScoreMatrix(
        tuple(record.scorers),
        _array(record.values, "<f4").reshape(shape),
        mask.astype(bool).reshape(shape),
    )


def _offers(
    record: decision_record_pb2.DecisionRecord, kept: Int32, removed: Mapping[str, Int32]
) -> Offers:
    n = len(record.campaigns)
    anybody = TermSets({}, np.zeros((n, 1), np.uint64))
    nothing = np.zeros(n, np.int64)
    book = CampaignBook(
        campaign_ids=[one.campaign_id for one in record.campaigns],
        sponsors=[one.sponsor for one in record.campaigns],
        disclosures=[""] * n,
        item_ids=[[] for _ in range(n)],
        specialties=anybody,
        countries=anybody,
        languages=anybody,
        starts_unix_s=nothing,
        ends_unix_s=nothing,
        budget=nothing,
        own_cap_per_day=nothing,
        value=np.array([one.value for one in record.campaigns], np.float32),
    )
    paying = _array(record.paying, "<i4")
    offered = paying != NOBODY
    order = np.argsort(kept[offered], kind="stable")
    return Offers(
        book,
        kept[offered][order],
        paying[offered][order],
        _array(record.prices, "<f4")[offered][order],
        np.array([one.room for one in record.campaigns], np.int32),
        removed.get(FREQUENCY_CAP, np.zeros(0, np.int32)),
    )


def _attempts(recorded: Sequence[decision_record_pb2.HoldAttempt]) -> list[HoldAttempt]:
    attempts = []
    for one in recorded:
        wanted = [WantedSlot(slot.item_id, slot.campaign_id) for slot in one.slots]
        holds: list[Hold] | None = [_HOLD[status] for status in one.statuses]
        if one.unanswered:
            holds = None
        attempts.append(HoldAttempt(wanted, holds))
    return attempts
