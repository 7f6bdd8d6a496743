"""A model of ours, speaking the contract's messages.

The one translation between :class:`~recmesh.models.model.Model` and ``recmesh.v1``: a
replica offers these methods over gRPC, and a co-located client calls them directly,
without serialisation.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from recmesh.deployments.call_batcher import CallBatcher
from recmesh.models.model import Capability, Context, Float32, Model, User
from recmesh.storage.errors import InvalidRequestError, RecMeshError, VersionError
from recmesh.v1 import common_pb2, model_pb2

Result = TypeVar("Result")

AT_ONCE_S = 0.001
"""A thread, its wake-ups and the fight for the interpreter lock cost more than they free."""
TEXTS_TOGETHER = 16
"""Single texts, as searches have them, that are embedded in one go when they wait anyway."""


def _user(features: common_pb2.UserFeatures) -> User:
    lengths = {
        len(features.history_item_ids),
        len(features.history_event_types),
        len(features.history_times_unix_s),
    }
    if len(lengths) != 1:
        raise InvalidRequestError(
            "user.history_item_ids", "not aligned with history_event_types and _times_unix_s"
        )
    return User(
        user_id=features.user_id,
        history_item_ids=list(features.history_item_ids),
        history_event_types=list(features.history_event_types),
        history_times_unix_s=list(features.history_times_unix_s),
        specialties=list(features.specialties),
        country=features.country,
        language=features.language,
    )


def _context(request: model_pb2.RetrieveRequest | model_pb2.ScoreRequest) -> Context:
    return Context(_user(request.user), request.surface, request.now_unix_s, request.query)


class ModelMethods:
    """The calls of ``ModelService`` on one loaded model, and on its other embedding versions.

    Model work runs in threads of its own, so that it never holds up the event loop; work that
    has proved shorter than the way to a thread and back is done at once.
    Raises what the model raises; a model that answers against the contract is an error.
    """

    def __init__(
        self, model: Model, threads: int = 2, texts_together: int = TEXTS_TOGETHER
    ) -> None:
        self._model = model
        self._texts = CallBatcher(self._embedded_texts, texts_together)
        self._versions: Mapping[str, Model] = {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=model.description.name)
        self._usual_s: dict[str, float] = {}

    @property
    def model(self) -> Model:
        """The one that answers who asks for no version."""
        return self._model

    def speak(self, versions: Mapping[str, Model]) -> None:
        """Answers in these embedding versions, too, from now on, and in no others.

        Requests under way keep theirs.
        """
        self._versions = dict(versions)

    def _speaking(self, embedding_version: str) -> Model:
        own = self._model.description.embedding_version
        if not own or embedding_version in ("", own):
            return self._model
        try:
            return self._versions[embedding_version]
        except KeyError:
            raise VersionError(
                f"this replica speaks {', '.join([own, *self._versions])}, not {embedding_version}"
            ) from None

    async def _work(self, kind: str, call: Callable[[], Result]) -> Result:
        """Does ``call``; ``kind`` names calls that take about the same time."""

        def timed() -> Result:
            started_s = time.perf_counter()
            try:
                return call()
            finally:
                took_s = time.perf_counter() - started_s
                usual_s = self._usual_s.get(kind, took_s)
                # Quick to see that calls have grown long, slow to believe that they are short.
                weight = 0.5 if took_s > usual_s else 0.1
                self._usual_s[kind] = usual_s + weight * (took_s - usual_s)

        if self._usual_s.get(kind, math.inf) < AT_ONCE_S:
            return timed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, timed)

    async def _embedded_texts(self, asked: Sequence[tuple[Model, str]]) -> list[Float32]:
        """Vectors ``[dim]`` of texts, each in its model's space."""
        texts_of: dict[Model, list[str]] = {}
        for model, text in asked:
            texts_of.setdefault(model, []).append(text)
        vectors: dict[tuple[Model, str], Float32] = {}
        for model, texts in texts_of.items():
            # One text proves nothing of how long many take.
            kind = "text" if len(texts) == 1 else "texts"
            embed = partial(model.embed_texts, texts)
            found = await self._work(kind, embed)
            vectors.update(((model, text), row) for text, row in zip(texts, found, strict=True))
        return [vectors[one] for one in asked]

    async def warm_up(self) -> None:
        """Loads what the model loads on first use, now rather than within a deadline."""
        if Capability.EMBED in self._model.description.capabilities:
            await self._work("texts", lambda: self._model.embed_texts(["warm-up"]))

    async def describe(self, _: model_pb2.DescribeRequest) -> model_pb2.DescribeResponse:
        """What the model is."""
        said = self._model.description
        others = [model.description for model in self._versions.values()]
        spoken = [said, *others] if said.embedding_version else []
        return model_pb2.DescribeResponse(
            name=said.name,
            version=said.version,
            capabilities=sorted(c.value for c in said.capabilities),  # type: ignore[misc] # enum numbers
            surfaces=said.surfaces,
            embedding_dim=said.embedding_dim,
            embedding_version=said.embedding_version,
            calibration=model_pb2.ScoreCalibration(**said.calibration),
            owner=said.owner,
            embedding_versions=[one.embedding_version for one in spoken],
            embedding_calibrations=[
                model_pb2.ScoreCalibration(**one.calibration) for one in spoken
            ],
        )

    async def retrieve(self, request: model_pb2.RetrieveRequest) -> model_pb2.RetrieveResponse:
        """A user's best items."""
        context = _context(request)
        found = await self._work("retrieve", lambda: self._model.retrieve(context, request.limit))
        if len(found.item_ids) > request.limit or len(found.item_ids) != len(found.scores):
            raise RecMeshError(
                f"the model retrieved {len(found.item_ids)} items with {len(found.scores)} "
                f"scores; at most {request.limit} were asked"
            )
        if not np.isfinite(found.scores).all() or (np.diff(found.scores) > 0).any():
            raise RecMeshError("the model retrieved scores that are not finite or not in order")
        return model_pb2.RetrieveResponse(
            item_ids=found.item_ids,
            scores=found.scores.tolist(),
            version=self._model.description.version,
        )

    async def score(self, request: model_pb2.ScoreRequest) -> model_pb2.ScoreResponse:
        """Opinions of items; what is not a number is said to be missing."""
        context = _context(request)
        ids = list(request.item_ids)
        model = self._speaking(request.embedding_version)
        scores: Float32 = await self._work("score", lambda: model.score(context, ids))
        if scores.shape != (len(ids),):
            raise RecMeshError(f"the model gave scores {scores.shape} for {len(ids)} items")
        if np.isinf(scores).any():
            raise RecMeshError("the model gave scores that are infinite")
        missing = np.isnan(scores)
        return model_pb2.ScoreResponse(
            scores=np.where(missing, np.float32(0), scores).tolist(),
            missing=np.flatnonzero(missing).tolist(),
            version=model.description.version,
        )

    async def embed(self, request: model_pb2.EmbedRequest) -> model_pb2.EmbedResponse:
        """Vectors of texts or of a user."""
        model = self._speaking(request.embedding_version)
        said = model.description
        response = model_pb2.EmbedResponse(
            dim=said.embedding_dim, embedding_version=said.embedding_version
        )
        if request.WhichOneof("input") == "texts":
            texts = list(request.texts.texts)
            if request.correct_spelling:
                read = await self._work("spelling", lambda: [model.corrected(t) for t in texts])
                if read != texts:
                    response.read_as.extend(read)
                    texts = read
            if len(texts) == 1:
                vectors = await self._texts((model, texts[0]))
            else:
                vectors = await self._work("texts", lambda: model.embed_texts(texts))
            response.values.extend(vectors.ravel().tolist())
            return response
        user = _user(request.user)
        vector = await self._work("user", lambda: model.embed_user(user, request.now_unix_s))
        if vector is None:
            response.missing.append(0)
            vector = np.zeros(said.embedding_dim, np.float32)
        response.values.extend(vector.tolist())
        return response

    def close(self) -> None:
        """Lets go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
