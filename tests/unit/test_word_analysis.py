from __future__ import annotations

import pytest

from recmesh.storage.word_analysis import analysed, analysed_query


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The failing Hearts of the elderly", "en", "fail heart elder"),
        ("The failing Hearts", "", "fail heart"),
        ("Les maladies cardiaques", "fr", "malad cardiaqu"),
        ("Die Behandlung der Krankheiten", "de", "behandl krankheit"),
        ("words as they are", "ja", "words as they are"),
        ("β2-agonists, 5 mg/kg", "en", "β2 agonist mg kg"),
        ("", "en", ""),
    ],
)
def test_texts_become_stems(text: str, language: str, expected: str) -> None:
    assert analysed(text, language) == expected


def test_a_query_is_read_in_every_language_once() -> None:
    assert analysed_query(["maladies", "maladies"], ["fr", "en", ""]) == "malad maladi"
