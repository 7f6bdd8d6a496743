from __future__ import annotations

import numpy as np
import pytest

from recmesh.models.nlp.spelling import Spelling, vocabulary

TEXTS = ["Diabetes and hypertension", "Diabetes in children", "Diabetic care, 5mg q12h statin"]


@pytest.fixture
def spelling() -> Spelling:
    return Spelling(*vocabulary(TEXTS))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("diabetis and hypertention", "diabetes and hypertension"),
        ("hypretensoin", "hypertension"),  # two swaps in a long word
        ("diabetes", "diabetes"),
        ("Diabetes Care", "Diabetes Care"),
        ("statins", "statins"),  # its stem is known
        ("caer", "care"),
        ("cae", "cae"),  # too short
        ("q13h 6mg", "q13h 6mg"),  # codes and doses
        ("zoonoses", "zoonoses"),  # resembles nothing
        ("", ""),
    ],
)
def test_unknown_words_become_the_nearest_known(
    spelling: Spelling, typed: str, expected: str
) -> None:
    assert spelling.corrected(typed) == expected


def test_of_equally_near_words_the_more_frequent_is_taken() -> None:
    words = Spelling(["bone", "cone"], np.array([1, 5], np.int64))
    assert words.corrected("lone") == "cone"


def test_without_a_vocabulary_nothing_is_corrected() -> None:
    assert Spelling(*vocabulary([])).corrected("diabetis") == "diabetis"
