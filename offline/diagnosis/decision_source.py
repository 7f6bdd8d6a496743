"""What decision records add to a serving log: pages as they were answered, and scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from recmesh.offline.diagnosis.checks.filter_bubble import topic_shares, unlike_pairs
from recmesh.offline.diagnosis.serving_log import Pages, ServingLog
from recmesh.orchestrator.catalog import unpacked
from recmesh.orchestrator.decisions.decision import Considered, Decision
from recmesh.v1 import common_pb2

NOT_ASKED = 0
"""Slots to be filled of a page that is short for its caller's sake, or a later one."""


@dataclass(slots=True)
class PageRecord:
    """One page as it was answered."""

    user_id: str
    surface: str
    unix_s: float
    requested: int
    """:data:`NOT_ASKED`: it may be short."""
    filled: int
    candidates: int
    offered_diversity: float
    states: dict[str, bool]
    """Whether the page had to do without each source that it asked."""


@dataclass(slots=True)
class PageRecords:
    """All pages of a time, and the scores of what they showed."""

    of_page: dict[tuple[str, int], PageRecord] = field(default_factory=dict)
    """By request and offset: a page that was decided again is as it was decided last."""
    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    """By request and item, by scorer; a scorer without an opinion is not there."""

    @classmethod
    def of(cls, decisions: Iterable[Decision]) -> PageRecords:
        """Reads decisions in the order in which they were made."""
        found = cls()
        for decision in decisions:
            found._add(decision)
        return found

    @property
    def pages(self) -> Sequence[PageRecord]:
        """All of them."""
        return list(self.of_page.values())

    def _add(self, decision: Decision) -> None:
        considered, request = decision.considered, decision.considered.request
        message = request.message
        chosen = decision.slate.chosen[request.offset :]
        own = message.candidate_item_ids or message.filter.ByteSize() or request.offset
        self.of_page[request.request_id, request.offset] = PageRecord(
            user_id=message.user_id,
            surface=message.surface,
            unix_s=float(request.now_unix_s),
            requested=NOT_ASKED if own else request.page_size,
            filled=len(chosen),
            candidates=len(considered.filtered.kept),
            offered_diversity=_offered_diversity(considered),
            states={
                source.name: source.state != common_pb2.SOURCE_STATE_OK
                for source in decision.answer.sources
            },
        )
        rows = considered.candidates.rows[considered.filtered.kept][chosen]
        matrix = considered.scores.of_request
        for row, position in zip(rows.tolist(), chosen.tolist(), strict=True):
            self.scores[request.request_id, request.catalog.item_ids[row]] = {
                scorer: float(matrix.values[position, column])
                for column, scorer in enumerate(matrix.scorers)
                if matrix.mask[position, column]
            }


def with_records(log: ServingLog, records: PageRecords, request_ids: Sequence[str]) -> ServingLog:
    """The log with its pages, and with the scores of its slots.

    Args:
        log: of events; it names the doctors and surfaces of all records.
        records: pages of other times are left out.
        request_ids: of every slot of the log; empty: its page is not known.
    """
    doctor_of = {user_id: row for row, user_id in enumerate(log.doctors.user_ids)}
    surface_of = {name: row for row, name in enumerate(log.surfaces)}
    pages = sorted(
        (page for page in records.pages if log.start_unix_s <= page.unix_s <= log.end_unix_s),
        key=lambda page: page.unix_s,
    )
    sources = sorted({name for page in pages for name in page.states})
    scorers = sorted({name for scores in records.scores.values() for name in scores})
    scores = np.full((len(log.slots), len(scorers)), np.nan, np.float32)
    for slot, (request_id, item) in enumerate(
        zip(request_ids, log.slots.item.tolist(), strict=True)
    ):
        own = records.scores.get((request_id, log.items.item_ids[item]), {})
        for name, score in own.items():
            scores[slot, scorers.index(name)] = score
    return replace(
        log,
        scorers=scorers,
        sources=sources,
        slots=replace(log.slots, scores=scores),
        pages=Pages(
            doctor=np.array([doctor_of[page.user_id] for page in pages], np.int64),
            unix_s=np.array([page.unix_s for page in pages], np.float64),
            surface=np.array([surface_of[page.surface] for page in pages], np.int64),
            requested=np.array([page.requested for page in pages], np.int64),
            filled=np.array([page.filled for page in pages], np.int64),
            candidates=np.array([page.candidates for page in pages], np.int64),
            degraded=np.array(
                [[page.states.get(name, False) for name in sources] for page in pages], bool
            ).reshape(len(pages), len(sources)),
            offered_diversity=np.array([page.offered_diversity for page in pages], np.float64),
        ),
    )


def _offered_diversity(considered: Considered) -> float:
    """Chance that two candidates share no topic; NaN with fewer than two that have one."""
    rows = considered.candidates.rows[considered.filtered.kept]
    topics = sparse.csr_matrix(unpacked(considered.request.catalog.topics.bits[rows]))
    known = np.asarray(topics.sum(axis=1)).ravel() > 0
    if known.sum() < 2:
        return float("nan")
    shares = topic_shares(topics[known].astype(np.float64))
    return float(unlike_pairs(np.zeros(shares.shape[0], np.int64), shares, 1)[0])
