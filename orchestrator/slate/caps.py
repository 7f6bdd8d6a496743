"""Caps: no more than so many of a topic, an author or a sponsor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.slate.candidates import (
    Bool,
    Int32,
    Int64,
    SlateCandidates,
    TopicSets,
)
from recmesh.orchestrator.slate.rules import RELAXATION_ORDER, SlateRules


class TopicCap:
    """Room that is left for every topic."""

    def __init__(self, topics: TopicSets, cap: int, shown: Int32 | None) -> None:
        """``shown`` ``[n_topic_bits]`` counts against the cap already."""
        self._topics = topics
        self.room: Int64 = np.full(len(topics.bit), cap, np.int64)
        """For further items ``[n_topics]``; negative when more were taken all the same."""
        if shown is not None:
            self.room -= shown[topics.bit]
        self.over: Bool = topics.with_any(np.flatnonzero(self.room <= 0))
        """Whom it keeps out ``[n]``; nobody comes in again."""

    def take(self, i: int) -> bool:
        """Candidate ``i`` is selected; returns whether that keeps others out."""
        own = self._topics.of(i)
        room = self.room[own] - 1
        self.room[own] = room
        if 0 not in room.tolist():
            return False
        self.over |= self._topics.with_any(own[room == 0])
        return True


class CodeCap:
    """Room that is left for every candidate's author or sponsor."""

    def __init__(self, codes: Int64, cap: int, shown: Int32 | None) -> None:
        """``codes`` ``[n]``, 0 for none; ``shown`` ``[n]`` counts against the cap already."""
        self._codes = codes
        self._room = np.full(len(codes), cap, np.int64)
        if shown is not None:
            self._room -= shown
        self.over: Bool = (self._room <= 0) & (codes != 0)
        """Whom it keeps out ``[n]``; nobody comes in again."""

    def take(self, i: int) -> bool:
        """Candidate ``i`` is selected; returns whether that keeps others out."""
        code = self._codes[i]
        if not code:
            return False
        same = self._codes == code
        self._room -= same
        if self._room[i] != 0:
            return False
        self.over |= same
        return True


class SoftCaps:
    """The caps that may be relaxed, and how far each candidate would need that."""

    def __init__(self, candidates: SlateCandidates, topics: TopicSets, rules: SlateRules) -> None:
        self.topic: dict[int, TopicCap] = {}
        """By place in the order of relaxation, from 1."""
        self.author: dict[int, CodeCap] = {}
        shown = candidates.topic_shown
        for name, cap, before in (
            ("max_per_topic", rules.max_per_topic, candidates.topic_dealt),
            ("max_per_topic_recently", rules.max_per_topic_recently, shown),
        ):
            if cap is not None:
                self.topic[RELAXATION_ORDER.index(name) + 1] = TopicCap(topics, cap, before)
        for name, cap, before in (
            ("max_per_author", rules.max_per_author, candidates.author_dealt),
            ("max_per_author_recently", rules.max_per_author_recently, candidates.author_shown),
        ):
            if cap is not None and candidates.author is not None:
                place = RELAXATION_ORDER.index(name) + 1
                self.author[place] = CodeCap(candidates.author, cap, before)
        self._caps = sorted((self.topic | self.author).items())
        self.needed: npt.NDArray[np.int8] = np.zeros(len(candidates), np.int8)
        """Last place in the order that each candidate needs relaxed ``[n]``; 0: none."""
        self._update()

    def _update(self) -> None:
        for place, cap in self._caps:
            np.putmask(self.needed, cap.over, place)

    def broken_by(self, i: int) -> list[int]:
        """Places of the caps that candidate ``i`` would break now."""
        return [place for place, cap in self._caps if cap.over[i]]

    def take(self, i: int) -> None:
        """Candidate ``i`` is selected."""
        fuller = [cap.take(i) for _, cap in self._caps]
        if any(fuller):
            self._update()
