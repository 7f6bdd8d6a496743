"""Whom and what a model is asked about: users and items that it knows, drawn by the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recmesh.models.interactions import read_interactions
from recmesh.offline.evaluation.fitting import newest_moment
from recmesh.offline.evaluation.served_scores import request_user
from recmesh.offline.model_checks.model_port import CallFailedError, ModelPort
from recmesh.offline.model_checks.opinions import opinions
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import EVENT_TYPES
from recmesh.v1 import common_pb2, model_pb2

USERS = 16
DRAWN_USERS = 64
DRAWN_ITEMS = 1000
ASKED = 200
"""Candidates of an ordinary call."""
NOW_UNIX_S = 1_767_225_600
"""Where there is no data set: 2026-01-01."""
DAY_S = 86_400
DEFAULT_SURFACE = "feed"


@dataclass(frozen=True)
class Material:
    """What ordinary calls are made of."""

    users: list[common_pb2.UserFeatures]
    """Users with a history, whom the model has an opinion on if it has one on anybody."""
    item_ids: list[str]
    """Items, those first that it has an opinion on."""
    known_items: int
    """So many of them."""
    surface: str
    now_unix_s: int

    def score(
        self,
        user: common_pb2.UserFeatures,
        item_ids: Sequence[str],
        *,
        query: str = "",
        now_unix_s: int | None = None,
    ) -> model_pb2.ScoreRequest:
        """An ordinary request for opinions."""
        return model_pb2.ScoreRequest(
            request_id="model-check",
            surface=self.surface,
            user=user,
            query=query,
            item_ids=item_ids,
            now_unix_s=self.now_unix_s if now_unix_s is None else now_unix_s,
        )

    def retrieve(
        self,
        user: common_pb2.UserFeatures,
        limit: int,
        *,
        query: str = "",
        now_unix_s: int | None = None,
    ) -> model_pb2.RetrieveRequest:
        """An ordinary request for items."""
        return model_pb2.RetrieveRequest(
            request_id="model-check",
            surface=self.surface,
            user=user,
            query=query,
            limit=limit,
            now_unix_s=self.now_unix_s if now_unix_s is None else now_unix_s,
        )

    def some(self, n: int) -> list[str]:
        """``n`` items, repeated where there are fewer."""
        return [self.item_ids[place % len(self.item_ids)] for place in range(n)]


def _features(store: UserStore, user_id: str) -> common_pb2.UserFeatures:
    return common_pb2.UserFeatures(**dataclasses.asdict(request_user(store, user_id)))


def _invented(item_ids: Sequence[str], rng: np.random.Generator) -> list[common_pb2.UserFeatures]:
    users = []
    for number in range(USERS):
        read = rng.permutation(len(item_ids))[:10].tolist()
        users.append(
            common_pb2.UserFeatures(
                user_id=f"model-check-{number}",
                history_item_ids=[item_ids[place] for place in read],
                history_event_types=[EVENT_TYPES["click"]] * len(read),  # type: ignore[list-item] # numbers
                history_times_unix_s=[
                    NOW_UNIX_S - DAY_S * (len(read) - place) for place in range(len(read))
                ],
            )
        )
    return users


async def material(
    port: ModelPort, said: model_pb2.DescribeResponse, dataset: Dataset | None, seed: int
) -> Material:
    """Draws users and items, and asks which of them the model knows.

    Without a data set, items are those that it retrieves, and histories are made of them.
    """
    rng = np.random.default_rng(seed)
    surface = said.surfaces[0] if said.surfaces else DEFAULT_SURFACE
    made = Material([], [], 0, surface, NOW_UNIX_S)
    if dataset is not None and len(dataset.events):
        events = read_interactions(dataset)
        store = UserStore(dataset)
        drawn = [events.user_ids[u] for u in rng.permutation(len(events.user_ids))[:DRAWN_USERS]]
        users = [user for user in (_features(store, u) for u in drawn) if user.history_item_ids]
        items = [events.item_ids[i] for i in rng.permutation(len(events.item_ids))[:DRAWN_ITEMS]]
        newest = newest_moment(dataset)
        now = int(newest.timestamp()) + 1 if newest else NOW_UNIX_S
        made = Material(users, items, 0, surface, now)
    if model_pb2.CAPABILITY_RETRIEVE in said.capabilities:
        asked = made.users[:4] or [common_pb2.UserFeatures(user_id="model-check")]
        for user in asked:
            try:
                found = await port.retrieve(made.retrieve(user, ASKED))
            except CallFailedError:
                continue
            items = list(dict.fromkeys([*found.item_ids, *made.item_ids]))
            made = dataclasses.replace(made, item_ids=items)
    if not made.item_ids:
        made = dataclasses.replace(made, item_ids=[f"item-{n}" for n in range(DRAWN_ITEMS)])
    if not made.users:
        made = dataclasses.replace(made, users=_invented(made.item_ids, rng))
    return await _known(port, said, made)


async def _known(port: ModelPort, said: model_pb2.DescribeResponse, made: Material) -> Material:
    """Keeps users that it has an opinion on, and puts items first that it has one on."""
    known_items: dict[str, None] = {}
    kept: list[common_pb2.UserFeatures] = []
    for user in made.users:
        if len(kept) == USERS:
            break
        try:
            if model_pb2.CAPABILITY_SCORE in said.capabilities:
                found = opinions(await port.score(made.score(user, made.item_ids)))
                has = [i for i, x in zip(made.item_ids, found.tolist(), strict=False) if x == x]
                known_items.update(dict.fromkeys(has))
            elif model_pb2.CAPABILITY_RETRIEVE in said.capabilities:
                has = list((await port.retrieve(made.retrieve(user, ASKED))).item_ids)
            else:
                has = made.item_ids
        except CallFailedError:
            has = []
        if has:
            kept.append(user)
    others = [item_id for item_id in made.item_ids if item_id not in known_items]
    return dataclasses.replace(
        made,
        users=kept or made.users[:USERS],
        item_ids=[*known_items, *others],
        known_items=len(known_items),
    )
