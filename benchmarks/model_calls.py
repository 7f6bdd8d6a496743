"""What a model is asked for a page, and what callers spend on it.

Users are the first ones of the data set, with their histories as the orchestrator sends them.
Every page is asked at a second of its own, as pages are: only the calls of one page are alike.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from recmesh.orchestrator.user_store import UserProfile, UserStore
from recmesh.storage.dataset import Dataset
from recmesh.v1 import common_pb2, model_pb2

Call = Callable[[str, model_pb2.RetrieveRequest | model_pb2.ScoreRequest], Awaitable[object]]
"""Asks a method of ModelService."""
Page = list[tuple[str, model_pb2.RetrieveRequest | model_pb2.ScoreRequest]]
"""Calls that follow each other."""

USERS = 64
CANDIDATES = 200
CALLERS = 8
KINDS = ("retrieve", "score", "page")
"""A page is both calls, about the same user at the same second."""
SEARCH = "query"
WORDS = ("statin", "trial", "heart", "failure", "liver", "asthma", "child", "dose", "kidney")


def _features(user: UserProfile) -> common_pb2.UserFeatures:
    return common_pb2.UserFeatures(
        user_id=user.user_id,
        history_item_ids=user.history_item_ids,
        history_event_types=user.history_event_types,  # type: ignore[arg-type]
        history_times_unix_s=user.history_times_unix_s,
        specialties=user.specialties,
        country=user.country,
        language=user.language,
    )


class Asked:
    """Makes pages of calls; no two are equal, nor equal to those of the other ``side``, 0 or 1."""

    def __init__(self, dataset: Path, side: int) -> None:
        opened = Dataset.open(dataset)
        users = UserStore(opened)
        ids = opened.users["user_id"].slice(0, USERS).to_pylist()
        profiles = [users.get(user_id) for user_id in ids]
        self.histories = [len(profile.history_item_ids) for profile in profiles]
        self._users = itertools.cycle([_features(profile) for profile in profiles])
        rng = np.random.default_rng(0)
        items = opened.items["item_id"].to_pylist()
        self._candidates = itertools.cycle(
            [[items[row] for row in rng.permutation(len(items))[:CANDIDATES]] for _ in range(16)]
        )
        last = max(max(p.history_times_unix_s, default=0) for p in profiles)
        self._seconds = itertools.count(last + 60 + side, 2)
        self._queries = (" ".join(rng.choice(WORDS, 4)) + f" {n}" for n in itertools.count(side, 2))

    def pages(self, kind: str, number: int) -> list[Page]:
        """The next ones."""
        return [self._page(kind) for _ in range(number)]

    def _page(self, kind: str) -> Page:
        if kind == SEARCH:
            texts = model_pb2.TextBatch(texts=[next(self._queries)])
            return [("embed", model_pb2.EmbedRequest(texts=texts))]  # type: ignore[list-item]
        features, now = next(self._users), next(self._seconds)
        retrieve = model_pb2.RetrieveRequest(
            surface="feed", user=features, limit=CANDIDATES, now_unix_s=now
        )
        score = model_pb2.ScoreRequest(
            surface="feed", user=features, item_ids=next(self._candidates), now_unix_s=now
        )
        both: Page = [("retrieve", retrieve), ("score", score)]
        return [one for one in both if kind in (one[0], "page")]


async def ask(call: Call, pages: list[Page]) -> None:
    """Eight callers, until all pages are answered."""
    waiting = iter(pages)

    async def caller() -> None:
        for page in waiting:
            for method, request in page:
                await call(method, request)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
