"""What models last proposed to whom: stands in for a model that does not answer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from recmesh.v1 import model_pb2


class Question(NamedTuple):
    """What two calls must share for the answer to one to do for the other."""

    asked: str
    """Name under which the panel knows the model."""
    surface: str
    query: str
    user_id: str
    personal: bool
    """Whether what the user did was told: not after they withdrew consent."""

    @classmethod
    def of(cls, asked: str, wanted: model_pb2.RetrieveRequest) -> Question:
        """What is asked of a model."""
        user = wanted.user
        return cls(asked, wanted.surface, wanted.query, user.user_id, bool(user.history_item_ids))


class LastAnswers:
    """The newest answer to each question, of the last questions asked. Belongs to one event loop.

    An orchestrator keeps those that it was given itself, as they came: 2,000 answers of 200 items
    take 40 MB.
    """

    def __init__(
        self,
        most: int = 2000,
        keep_s: float = 900.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``keep_s`` is how old an answer may be to stand in for another."""
        self._most = most
        self._keep_s = keep_s
        self._now_s = now_s
        self._answers: OrderedDict[Question, tuple[float, model_pb2.RetrieveResponse]] = (
            OrderedDict()
        )

    def keep(self, question: Question, answer: model_pb2.RetrieveResponse) -> None:
        """Remembers an answer, and forgets those that are too old or too many, oldest first."""
        now_s = self._now_s()
        self._answers[question] = now_s, answer
        self._answers.move_to_end(question)
        while len(self._answers) > self._most or self._oldest_s() < now_s - self._keep_s:
            self._answers.popitem(last=False)

    def last(self, question: Question) -> tuple[model_pb2.RetrieveResponse, float] | None:
        """The last answer and its age in seconds; None: there is none, or it is too old."""
        found = self._answers.get(question)
        if found is None:
            return None
        at_s, answer = found
        age_s = self._now_s() - at_s
        return (answer, age_s) if age_s <= self._keep_s else None

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._answers)

    def _oldest_s(self) -> float:
        at_s, _ = next(iter(self._answers.values()))
        return at_s
