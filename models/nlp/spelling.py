"""Corrects words of a query that no text has and that resemble one some text has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA
from rapidfuzz.process import cdist

from recmesh.storage.word_analysis import DEFAULT_LANGUAGE, WORD, stems

Int64 = npt.NDArray[np.int64]

SHORTEST = 4
"""Shorter words have too many neighbours."""
TWO_EDITS_FROM = 8
"""Words of this length on may differ in two edits, shorter ones in one."""
MOST_WORDS = 200_000
"""The most frequent; looking through them takes some 10 ms, for unknown words only."""


def vocabulary(texts: Iterable[str]) -> tuple[list[str], Int64]:
    """The distinct words of the texts, lower case, and how often they occur ``[words]``."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(WORD.findall(text.lower()))
    # Sorted: equal texts give an equal artifact, whatever their order.
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_WORDS]
    return [word for word, _ in ranked], np.array([count for _, count in ranked], np.int64)


class Spelling:
    """A vocabulary to correct by. Thread-safe."""

    def __init__(self, words: Sequence[str], counts: Int64) -> None:
        """``counts`` ``[len(words)]`` of the lower-case words."""
        worth_it = [row for row, word in enumerate(words) if len(word) >= SHORTEST]
        self._words = [words[row] for row in worth_it]
        self._counts = counts[worth_it]
        self._known = frozenset(words)
        self._stems = frozenset(stems(list(words), DEFAULT_LANGUAGE))

    def corrected(self, text: str) -> str:
        """The text with each unknown word replaced by the nearest known one, if one is near.

        Near is optimal string alignment distance (edits, and swaps of neighbours) 1, or 2 for
        words of eight letters or more; of equally near words the most frequent one is taken.
        Words with digits stay as they are: doses and codes have no spelling.
        """
        return WORD.sub(lambda found: self._nearest(found.group()), text)

    def _nearest(self, word: str) -> str:
        lowered = word.lower()
        if (
            len(word) < SHORTEST
            or lowered in self._known
            or not word.isalpha()
            or not self._words
            or stems([lowered], DEFAULT_LANGUAGE)[0] in self._stems
        ):
            return word
        edits = 2 if len(word) >= TWO_EDITS_FROM else 1
        distances = cdist(
            [lowered], self._words, scorer=OSA.distance, score_cutoff=edits, dtype=np.uint8
        )[0]
        nearest = int(distances.min())
        if nearest > edits:
            return word
        rows = np.flatnonzero(distances == nearest)
        return self._words[int(rows[np.argmax(self._counts[rows])])]
