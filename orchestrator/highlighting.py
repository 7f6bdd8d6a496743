"""Marks in a text what matches a query, and cuts the part that answers it best.

Words match when their stems do, so that what is marked is what the search by words found.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from recmesh.storage.word_analysis import WORD, stems

SNIPPET_CHARACTERS = 240
LONGEST_SEARCHED_CHARACTERS = 20_000
"""Only the beginning of a longer text is searched for its best part."""
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Highlighted:
    """A text and the parts of it that match: code points ``[start, end)``, in order."""

    text: str
    spans: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Match:
    start: int
    end: int
    stem: str


def _matches(text: str, language: str, wanted: frozenset[str]) -> list[_Match]:
    words = [(found.start(), found.end(), found.group()) for found in WORD.finditer(text)]
    stemmed = stems([word for _, _, word in words], language)
    return [
        _Match(start, end, stem)
        for (start, end, _), stem in zip(words, stemmed, strict=True)
        if stem in wanted
    ]


def _spans(text: str, matches: Sequence[_Match], offset: int) -> list[tuple[int, int]]:
    """The matches' places, those with only a blank between them as one."""
    spans: list[tuple[int, int]] = []
    for match in matches:
        start, end = match.start + offset, match.end + offset
        if spans and text[spans[-1][1] : start] == " ":
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def highlighted(text: str, language: str, wanted: frozenset[str]) -> Highlighted:
    """The whole text.

    Args:
        text: plain text.
        language: of the text, ISO 639-1; empty: English.
        wanted: stems of the query.
    """
    return Highlighted(text, _spans(text, _matches(text, language, wanted), 0))


def snippet(text: str, language: str, wanted: frozenset[str]) -> Highlighted:
    """About 240 characters of the text: those with most different words of the query.

    Of equally good parts the one with more matches, then the first, is taken; the opening when
    nothing matches. Begins with a sentence where one begins near; words are never cut.
    """
    text = " ".join(text[:LONGEST_SEARCHED_CHARACTERS].split())
    matches = _matches(text, language, wanted)
    starts = [match.start for match in matches]

    def worth(first: int) -> tuple[int, int, int]:
        last = bisect_left(starts, starts[first] + SNIPPET_CHARACTERS)
        inside = matches[first:last]
        return len({match.stem for match in inside}), len(inside), -first

    best = max(range(len(matches)), key=worth, default=0)
    begin = _beginning(text, starts[best] if matches else 0)
    end = len(text)
    if begin + SNIPPET_CHARACTERS < end:
        blank = text.rfind(" ", begin + 1, begin + SNIPPET_CHARACTERS + 1)
        end = blank if blank > begin else begin + SNIPPET_CHARACTERS
    before, after = ELLIPSIS if begin else "", ELLIPSIS if end < len(text) else ""
    cut = f"{before}{text[begin:end]}{after}"
    inside = [match for match in matches if match.start >= begin and match.end <= end]
    return Highlighted(cut, _spans(cut, inside, len(before) - begin))


def _beginning(text: str, match: int) -> int:
    """Where a snippet around a match begins: its sentence, or a few words before it."""
    earliest = max(match - SNIPPET_CHARACTERS // 3, 0)
    if earliest == 0:
        return 0
    sentence = max(text.rfind(mark, earliest, match) for mark in (". ", "? ", "! "))
    if sentence >= 0:
        return sentence + 2
    return text.find(" ", max(match - SNIPPET_CHARACTERS // 6, 0), match) + 1 or match
