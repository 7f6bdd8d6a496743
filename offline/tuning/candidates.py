"""What every trial of a tuning ranks: the candidates of all users, as arrays of one width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32
from recmesh.offline.evaluation.period import Period
from recmesh.offline.evaluation.ranking import top_items
from recmesh.offline.evaluation.served_blend import calibrated, popular_scores
from recmesh.offline.metrics.diversity import jaccard
from recmesh.offline.tuning.batch_interest_match import NO_TOPIC, InterestTopics
from recmesh.offline.tuning.sponsorship import paid_value
from recmesh.orchestrator.blend import Calibration, ScoreMatrix, score_matrix
from recmesh.orchestrator.catalog import Catalog, item_catalog, unpacked
from recmesh.orchestrator.retrieval import POPULAR
from recmesh.orchestrator.slate.request_columns import interests
from recmesh.orchestrator.user_store import UserStore

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

WIDTH = 200
"""Candidates of a user: the policy's ``source_limit``."""


@dataclass(frozen=True)
class Candidates:
    """Candidates of every user; ``users`` × ``width``, what is missing at the end is padding."""

    catalog: Catalog
    now_unix_s: int
    users: list[str]
    """User ids ``[users]``."""
    scorers: tuple[str, ...]
    rows: Int32
    """Catalog rows ``[users, width]``; -1 is padding."""
    matrix: ScoreMatrix
    """Calibrated scores of all pairs, ``[users · width, scorers]``."""
    wanted: Bool
    """``[users, width]``"""
    n_wanted: Int64
    """Items that each user wanted, candidates or not ``[users]``."""
    paid: Float32
    """Worth of the campaign that may pay for the item and reach the user ``[users, width]``;
    0: none."""
    topics: Int32
    """Topics of every candidate ``[users, width, most]``; -1 fills up."""
    authors: Int64
    """Code of the lead author ``[users, width]``; 0: unknown."""
    similarity: Float32
    """Jaccard's index of the topics of a user's candidates ``[users, width, width]``."""
    interest_topics: InterestTopics | None
    """What users care about among the topics of their candidates; None: of nobody known."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def interest_places(self) -> npt.NDArray[np.intp]:
        """:attr:`InterestTopics.places`, which all trials share."""
        assert self.interest_topics is not None
        return self.interest_topics.places

    @property
    def exists(self) -> Bool:
        """What is no padding ``[users, width]``."""
        return np.asarray(self.rows >= 0, np.bool_)

    @property
    def flat_rows(self) -> Int32:
        """Catalog rows of all pairs ``[users · width]``; padding reads row 0."""
        return np.maximum(self.rows, 0).ravel()


def _proposed(scorers: Mapping[str, Float32], of: Period, worth: Float32) -> Int64:
    """Positions in the catalogue ``[users, WIDTH]``: what is paid for, then the scorers' best,
    turn by turn.

    ``worth`` is what campaigns would pay for ``[users, catalogue]``.
    """
    best = np.stack([top_items(scores, of.seen, WIDTH) for scores in scorers.values()], axis=2)
    proposed = np.full((len(of.users), WIDTH), -1, np.int64)
    for user, in_turn in enumerate(best.reshape(len(best), -1)):
        paid = np.setdiff1d(np.flatnonzero(worth[user]), of.seen[user].indices)
        ranked = np.concatenate([paid, in_turn])
        distinct, first = np.unique(ranked, return_index=True)
        order = distinct[np.argsort(first)]
        order = order[order >= 0][:WIDTH]
        proposed[user, : len(order)] = order
    return proposed


def _topics(catalog: Catalog, rows: Int32) -> tuple[Int32, Float32]:
    """Topic numbers ``[users, width, most]`` and similarity ``[users, width, width]``."""
    has = unpacked(catalog.topics.bits[np.maximum(rows, 0)]).astype(bool)
    has &= (rows >= 0)[:, :, None]
    most = max(int(has.sum(axis=2).max(initial=0)), 1)
    # The set bits first, in their order.
    topics = np.argsort(~has, axis=2, kind="stable")[:, :, :most].astype(np.int32)
    topics[~np.take_along_axis(has, topics.astype(np.int64), axis=2)] = NO_TOPIC
    used = has.any(axis=(0, 1))
    similarity = np.empty((*rows.shape, rows.shape[1]), np.float32)
    for user, own in enumerate(has[:, :, used].astype(np.float32)):
        similarity[user] = jaccard(own @ own.T, own.sum(axis=1))
    return topics, similarity


def _interests(catalog: Catalog, of: Period) -> Float32:
    """Of every user, in every topic bit ``[users, bits]``; all 0: unknown."""
    store = UserStore(of.known)
    known = np.zeros((len(of.users), 64 * catalog.topics.bits.shape[1]), np.float32)
    for row, user in enumerate(of.users):
        own = interests(catalog, store.get(user))
        if own is not None:
            known[row] = own
    return known


def candidates_of(
    raw: Mapping[str, Float32],
    calibrations: Mapping[str, Calibration],
    of: Period,
    popularity_half_life_days: float,
    campaigns: bool,
) -> Candidates:
    """The candidates of a period's users.

    Args:
        raw: models' scores ``[users, catalogue]``, NaN for no opinion.
        calibrations: of the models.
        of: whose users and catalogue they are.
        popularity_half_life_days: of the scorer ``popular``.
        campaigns: whether they take part.
    """
    catalog = item_catalog(of.known, popularity_half_life_days)
    popular = popular_scores(of, popularity_half_life_days)
    shape = (len(of.users), len(of.catalogue))
    in_catalog = catalog.rows(of.catalogue)
    worth = paid_value(of, catalog, in_catalog) if campaigns else np.zeros(shape, np.float32)
    proposed = _proposed({**raw, POPULAR: np.broadcast_to(popular, shape)}, of, worth)
    exists = proposed >= 0
    places = np.maximum(proposed, 0)
    users = np.arange(len(of.users))[:, None]

    def column(scores: Float32) -> Float32:
        return np.where(exists, scores, np.float32(np.nan)).ravel()

    columns = {
        name: column(calibrated(scores[users, places], calibrations.get(name)))
        for name, scores in raw.items()
    }
    columns[POPULAR] = column(popular[places])
    rows = np.where(exists, in_catalog[places], -1).astype(np.int32)
    topics, similarity = _topics(catalog, rows)
    wanted = np.asarray(of.wanted[users, places].todense(), bool) & exists
    return Candidates(
        catalog=catalog,
        now_unix_s=of.now_unix_s,
        users=of.users,
        scorers=tuple(columns),
        rows=rows,
        matrix=score_matrix(columns, rows.size),
        wanted=wanted,
        n_wanted=np.diff(of.wanted.indptr).astype(np.int64),
        paid=worth[users, places] * exists,
        topics=topics,
        authors=catalog.lead_author[np.maximum(rows, 0)] * exists,
        similarity=similarity,
        interest_topics=InterestTopics.of(topics, _interests(catalog, of)),
    )
