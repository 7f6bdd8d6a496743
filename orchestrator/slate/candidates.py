"""What a page is made of, columnar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.catalog import unpacked

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlateCandidates:
    """The candidates of one request. A column that is absent says nothing of anybody."""

    utility: Float32
    """``[n]``; -inf or NaN never takes a slot."""
    topics: npt.NDArray[np.uint64]
    """Topic sets as bits ``[n, n_words]``."""
    boost: Float32 | None = None
    """Added to utility ``[n]``."""
    blocked: Bool | None = None
    """Never shown ``[n]``."""
    pin_slot: Int32 | None = None
    """Slot from 1 that the candidate is to have ``[n]``; 0: any or none."""
    author: Int64 | None = None
    """Code of the author ``[n]``; 0: unknown, never capped."""
    sponsored: Bool | None = None
    """Whether a slot for it is a sponsored one ``[n]``."""
    sponsor: Int64 | None = None
    """Code of the sponsor ``[n]``; 0: unknown, never capped."""
    campaign: Int64 | None = None
    """Code of the campaign that pays ``[n]``; 0: none."""
    campaign_room: Int32 | None = None
    """Slots that its campaign may have at most ``[n]``, equal for all of a campaign."""
    explores: Bool | None = None
    """Who may have an exploration slot ``[n]``."""
    interests: Float32 | None = None
    """The user's interest in every topic bit ``[64 · n_words]``, ≥ 0."""
    topic_shown: Int32 | None = None
    """Times that every topic bit was shown lately ``[64 · n_words]``."""
    author_shown: Int32 | None = None
    """Times that the candidate's author was shown lately ``[n]``."""
    sponsor_shown: Int32 | None = None
    """Sponsored slots that its sponsor had lately ``[n]``."""
    topic_dealt: Int32 | None = None
    """Times that every topic bit is on the slate already ``[64 · n_words]``."""
    author_dealt: Int32 | None = None
    """Times that the candidate's author is on the slate already ``[n]``."""
    sponsor_dealt: Int32 | None = None
    """Sponsored slots of its sponsor that are on the slate already ``[n]``."""

    def __len__(self) -> int:
        return len(self.utility)

    @property
    def may_be_shown(self) -> Bool:
        """Neither blocked nor without a utility ``[n]``."""
        finite = np.isfinite(self.utility)
        return finite if self.blocked is None else finite & ~self.blocked

    @property
    def boosted(self) -> Float64:
        """Utility with boosts ``[n]``; 0 for who has none."""
        utility = np.where(np.isfinite(self.utility), self.utility, 0.0).astype(np.float64)
        return utility if self.boost is None else utility + self.boost


class TopicSets:
    """The candidates' topics, as a matrix of the topics that any has."""

    def __init__(self, bits: npt.NDArray[np.uint64]) -> None:
        """``bits`` is ``[n, n_words]``."""
        has = unpacked(bits)
        self.bit: Int64 = np.flatnonzero(has.any(axis=0))
        """Topic bit of every column ``[n_topics]``."""
        self.has: Float32 = has[:, self.bit].astype(np.float32)
        """0 or 1 ``[n, n_topics]``."""
        self.size: Float32 = self.has.sum(axis=1)
        """Topics of every candidate ``[n]``."""
        self._columns = np.nonzero(self.has)[1]
        self._ends = np.cumsum(self.size).astype(np.intp)
        self._by_topic = np.ascontiguousarray(self.has.T, bool)

    @property
    def unlimited(self) -> Int64:
        """Room for every topic that nothing can fill ``[n_topics]``."""
        return np.full(len(self.bit), np.iinfo(np.int64).max, np.int64)

    def similarity(self, i: int) -> Float64:
        """Jaccard's index with candidate ``i`` ``[n]``, in [0, 1]; 0 for who has no topic."""
        shared = self.has @ self.has[i]
        return np.asarray(shared / np.maximum(self.size + self.size[i] - shared, 1), np.float64)

    def of(self, i: int) -> Int64:
        """Columns of candidate ``i``'s topics."""
        end = self._ends[i]
        return self._columns[end - int(self.size[i]) : end]

    def with_any(self, columns: Int64) -> Bool:
        """Who has one of these topics ``[n]``."""
        return np.asarray(self._by_topic[columns].any(axis=0), np.bool_)
