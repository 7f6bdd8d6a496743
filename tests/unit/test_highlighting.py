from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.highlighting import (
    ELLIPSIS,
    SNIPPET_CHARACTERS,
    Highlighted,
    highlighted,
    snippet,
)

FILLER = "Nothing of interest was said here, at some length. " * 20


def marked(text: Highlighted) -> list[str]:
    return [text.text[start:end] for start, end in text.spans]


def test_what_has_the_stem_of_a_word_of_the_query_is_marked() -> None:
    found = highlighted("Treating failing hearts", "en", frozenset({"heart", "treat"}))
    assert marked(found) == ["Treating", "hearts"]


def test_neighbours_are_marked_as_one() -> None:
    assert marked(highlighted("acute heart attacks", "en", frozenset({"heart", "attack"}))) == [
        "heart attacks"
    ]


def test_places_are_counted_in_code_points() -> None:
    assert highlighted("😀 héart heart", "en", frozenset({"heart"})).spans == [(8, 13)]


def test_each_language_has_its_stems() -> None:
    assert marked(highlighted("les malades cardiaques", "fr", frozenset({"cardiaqu"}))) == [
        "cardiaques"
    ]


def test_a_snippet_is_the_part_with_most_words_of_the_query() -> None:
    text = f"{FILLER}The heart was examined. {FILLER}Heart failure admissions fell. {FILLER}"
    cut = snippet(text, "en", frozenset({"heart", "failur", "admiss"}))
    assert marked(cut) == ["Heart failure admissions"]
    assert cut.text.startswith(f"{ELLIPSIS}Heart failure")
    assert cut.text.endswith(ELLIPSIS)


def test_without_a_match_a_snippet_is_the_opening() -> None:
    cut = snippet(FILLER, "en", frozenset({"heart"}))
    assert cut.spans == []
    assert cut.text.startswith("Nothing of interest")


def test_a_short_text_is_its_own_snippet() -> None:
    assert snippet("A heart\n beats.", "en", frozenset({"heart"})).text == "A heart beats."
    assert snippet("", "en", frozenset({"heart"})).text == ""


texts = st.lists(
    st.sampled_from(["heart", "hearts.", "failure", "x" * 300, "😀", "a", "Ärzte", "so. ", "\n"])
).map(" ".join)


@given(texts, st.sets(st.sampled_from(["heart", "failur", "ärzte"])))
def test_marks_lie_in_the_snippet_and_match(text: str, wanted: set[str]) -> None:
    cut = snippet(text, "en", frozenset(wanted))
    assert len(cut.text) <= SNIPPET_CHARACTERS + 2 * len(ELLIPSIS)
    assert cut.text.strip(ELLIPSIS) in " ".join(text.split())
    end = -1
    for start, stop in cut.spans:
        assert end < start < stop <= len(cut.text)
        end = stop
    if any(stem in text.lower() for stem in wanted) and "x" * 300 not in text:
        assert cut.spans
