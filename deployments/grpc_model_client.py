"""A model behind gRPC addresses: balanced, retried and hedged by the caller itself.

No process stands between the orchestrator and a model. Who is asked is decided in
:mod:`recmesh.deployments.address_pool`, what an error means in
:mod:`recmesh.deployments.model_failure`, and when a call is made twice in
:mod:`recmesh.deployments.hedging`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message

from recmesh.deployments.address_pool import AddressPool, Replica
from recmesh.deployments.attempt import Attempt
from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.hedged_call import first_answer
from recmesh.deployments.hedging import HedgeBudget, Latency
from recmesh.deployments.mesh_token import from_inside
from recmesh.storage.errors import RecMeshError, UnavailableError, VersionError
from recmesh.storage.telemetry.spans import named
from recmesh.v1 import model_pb2

HEDGED = ("Retrieve", "Score", "Embed")


class GrpcModelClient:
    """Adapter of :class:`~recmesh.orchestrator.model_client.ModelClient`.

    Each call goes to the address with the fewest calls in flight. What could not be reached, or
    lacks the version asked for, is tried once more elsewhere while the call's time lasts. What
    takes longer than 95 in 100 calls is asked of a second address, too, two calls in 100 at most.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        *,
        pinned: bool = False,
        tls: ClientTls | None = None,
        token: str = "",
    ) -> None:
        """Connects with the first call.

        Args:
            name: the model's.
            addresses: where it is; none: it cannot be reached yet.
            pinned: the addresses are configuration: discovery must not replace them.
            tls: None: nothing is secret.
            token: of the mesh that the addresses are in; not for a model elsewhere.

        Raises:
            ConfigurationError: a file that ``tls`` names is not what it should be.
        """
        self._name = name
        self.pinned = pinned
        self._pool = AddressPool(tls, metadata=from_inside(token))
        self._latencies = {method: Latency() for method in HEDGED}
        self._budget = HedgeBudget()
        self.set_addresses(addresses)

    @property
    def name(self) -> str:
        """The model's name in the policy."""
        return self._name

    @property
    def in_flight(self) -> int:
        """Calls that are not answered yet."""
        return self._pool.outstanding

    def replicas(self) -> tuple[int, int]:
        """How many replicas are asked, and how many are left alone for a while."""
        alone = self._pool.left_alone()
        return len(self._pool) - alone, alone

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Takes the replicas that discovery knows of; an empty list changes nothing."""
        self._pool.set_addresses(addresses)

    def forget(self, addresses: Iterable[str]) -> None:
        """No longer asks at these addresses: somebody else is there now."""
        self._pool.forget(addresses)

    async def _call(self, method: str, request: Message, timeout_s: float) -> Any:
        named(f"{self._name} {method}")
        began_s = time.monotonic()
        latency = self._latencies.get(method)
        tried: set[str] = set()
        failure: RecMeshError = UnavailableError(f"model {self._name} has no address")
        for _ in range(2):
            replica = self._pool.pick(tried)
            remaining_s = timeout_s - (time.monotonic() - began_s)
            if replica is None or remaining_s <= 0:
                break
            try:
                if latency is None:
                    return await self._attempt(replica, method, request, remaining_s, None).answer()
                answer = await self._hedged(replica, method, request, remaining_s, latency.p95_s)
            except (UnavailableError, VersionError) as error:
                failure = error
                tried.add(replica.address)
            else:
                latency.add(time.monotonic() - began_s)
                return answer
        raise failure

    def _attempt(
        self,
        replica: Replica,
        method: str,
        request: Message,
        timeout_s: float,
        usual_s: float | None,
    ) -> Attempt:
        return Attempt(self._name, self._pool.tls, replica, method, request, timeout_s, usual_s)

    async def _hedged(
        self,
        replica: Replica,
        method: str,
        request: Message,
        timeout_s: float,
        usual_s: float | None,
    ) -> Any:
        """One replica's answer, or that of a second one, asked when it has taken ``usual_s``."""
        first = self._attempt(replica, method, request, timeout_s, usual_s)
        self._budget.earn()
        if usual_s is None or usual_s >= timeout_s or len(self._pool) < 2:
            return await first.answer()

        def second() -> Attempt | None:
            other = self._pool.other(replica)
            if other is None or not self._budget.spend():
                return None
            return self._attempt(other, method, request, timeout_s - usual_s, usual_s)

        return await first_answer(first, usual_s, second)

    async def describe(self, *, timeout_s: float) -> model_pb2.DescribeResponse:
        """What the model is."""
        answer: model_pb2.DescribeResponse = await self._call(
            "Describe", model_pb2.DescribeRequest(), timeout_s
        )
        return answer

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        """A user's best items."""
        answer: model_pb2.RetrieveResponse = await self._call("Retrieve", request, timeout_s)
        return answer

    async def score(
        self, request: model_pb2.ScoreRequest, *, timeout_s: float
    ) -> model_pb2.ScoreResponse:
        """Opinions of items."""
        answer: model_pb2.ScoreResponse = await self._call("Score", request, timeout_s)
        return answer

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        """Vectors."""
        answer: model_pb2.EmbedResponse = await self._call("Embed", request, timeout_s)
        return answer

    async def close(self) -> None:
        """Closes every connection."""
        await self._pool.close()
