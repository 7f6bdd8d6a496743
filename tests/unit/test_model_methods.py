from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from recmesh.deployments.model_methods import ModelMethods
from recmesh.models.model import Capability, Description, Float32, Model
from recmesh.v1 import model_pb2


class LetterModel(Model):
    """Embeds texts by their length; knows how to spell "heart"."""

    description = Description(
        name="letters",
        version="1",
        capabilities=frozenset({Capability.EMBED}),
        owner="tests",
        embedding_dim=1,
        embedding_version="space",
    )

    def corrected(self, text: str) -> str:
        return text.replace("hart", "heart")

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        self.batches.append(list(texts))
        return np.array([[len(text)] for text in texts], np.float32)


def request(*texts: str, correct: bool) -> model_pb2.EmbedRequest:
    return model_pb2.EmbedRequest(texts=model_pb2.TextBatch(texts=texts), correct_spelling=correct)


async def test_texts_are_embedded_as_they_were_corrected_and_that_is_said() -> None:
    methods = ModelMethods(LetterModel())
    answer = await methods.embed(request("hart", "skin", correct=True))
    assert list(answer.values) == [5, 4]
    assert list(answer.read_as) == ["heart", "skin"]
    methods.close()


async def test_nothing_is_said_of_texts_that_stayed_or_were_to_stay() -> None:
    methods = ModelMethods(LetterModel())
    for asked in (request("heart", correct=True), request("hart", correct=False)):
        answer = await methods.embed(asked)
        assert list(answer.values) == [len(asked.texts.texts[0])]
        assert list(answer.read_as) == []
    methods.close()


async def test_texts_that_wait_are_embedded_together_each_as_alone() -> None:
    model = LetterModel()
    methods = ModelMethods(model)
    texts = ["a", "bbb", "cc", "bbb"]
    answers = await asyncio.gather(*(methods.embed(request(t, correct=False)) for t in texts))
    assert [list(answer.values) for answer in answers] == [[1], [3], [2], [3]]
    assert [sorted(batch) for batch in model.batches] == [["a", "bbb", "cc"]]
    methods.close()
