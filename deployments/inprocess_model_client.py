"""A co-located model: the same messages, no network, no serialisation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog

from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.spoken_versions import SpokenVersions
from recmesh.models.model import Model
from recmesh.storage.errors import DeadlineError, RecMeshError
from recmesh.storage.home import Home
from recmesh.storage.telemetry.spans import named
from recmesh.v1 import model_pb2

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


class InProcessModelClient:
    """Adapter of :class:`~recmesh.orchestrator.model_client.ModelClient`."""

    def __init__(self, model: Model, threads: int = 2) -> None:
        self._methods = ModelMethods(model, threads)
        self._name = model.description.name
        self._following: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The model's name in the policy."""
        return self._name

    async def warm_up(self) -> None:
        """Loads what the model loads on first use."""
        await self._methods.warm_up()

    async def speak_all(self, home: Home) -> None:
        """Answers in every embedding version that is served, now and from now on."""
        self._following = await SpokenVersions(home, self._methods).start()

    async def _within(self, call: Awaitable[Answer], timeout_s: float, method: str) -> Answer:
        named(f"{self._name} {method}")
        try:
            async with asyncio.timeout(timeout_s):
                return await call
        except TimeoutError as error:
            raise DeadlineError(f"model {self._name} did not answer in {timeout_s} s") from error
        except RecMeshError:
            raise
        except Exception as error:
            # As over the network: a defect in a model is the model's failure, without text.
            log.exception("model failed", model=self._name)
            raise RecMeshError(f"model {self._name} failed") from error

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        """What the model is."""
        return await self._within(
            self._methods.describe(model_pb2.DescribeRequest()), timeout_s, "Describe"
        )

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """A user's best items."""
        return await self._within(self._methods.retrieve(request), timeout_s, "Retrieve")

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """Opinions of items."""
        return await self._within(self._methods.score(request), timeout_s, "Score")

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        """Vectors."""
        return await self._within(self._methods.embed(request), timeout_s, "Embed")

    async def close(self) -> None:
        """Lets go of the model's threads."""
        if self._following is not None:
            self._following.cancel()
        self._methods.close()
