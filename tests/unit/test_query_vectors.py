from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from recmesh.models.model import Float32
from recmesh.models.nlp.query_vectors import QueryVectors


class Lengths:
    """Embeds a text as its length; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Float32:
        self.asked.append(list(texts))
        return np.array([[len(text)] for text in texts], np.float32)


def test_only_what_is_new_is_embedded_and_once() -> None:
    encode = Lengths()
    queries = QueryVectors(encode, 4)
    assert queries.one("a") == 1
    assert queries.many(["bbb", "a", "cc", "bbb"]).ravel().tolist() == [3, 1, 2, 3]
    assert queries.one("cc") == 2
    assert encode.asked == [["a"], ["bbb", "cc"]]


def test_the_one_used_longest_ago_is_forgotten() -> None:
    encode = Lengths()
    queries = QueryVectors(encode, 2)
    for query in ("a", "b", "a", "c", "a", "b"):
        queries.one(query)
    assert encode.asked == [["a"], ["b"], ["c"], ["b"]]


def test_more_than_are_kept_are_answered() -> None:
    queries = QueryVectors(Lengths(), 1)
    assert queries.many(["a", "bb", "ccc"]).ravel().tolist() == [1, 2, 3]


def test_shared_vectors_cannot_be_changed_and_answers_can() -> None:
    queries = QueryVectors(Lengths(), 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            queries.one("a")[0] = 9
        queries.many(["a"])[0, 0] = 9
    assert queries.one("a") == 1
