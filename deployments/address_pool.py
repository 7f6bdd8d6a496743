"""The addresses of one model: who is asked next, and who is left alone for a while.

An address is never forgotten because discovery is silent or empty: connection health decides
who is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from google.protobuf.message import Message

from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.grpc_channel import model_channel
from recmesh.deployments.mesh_token import Metadata
from recmesh.deployments.outlier import Outlier
from recmesh.v1 import model_pb2

CLOSING_S = 2.0
METHODS: dict[str, type[Message]] = {
    "Describe": model_pb2.DescribeResponse,
    "Retrieve": model_pb2.RetrieveResponse,
    "Score": model_pb2.ScoreResponse,
    "Embed": model_pb2.EmbedResponse,
}


class Replica:
    """One address: its connection, its calls in flight, and what it did of late."""

    def __init__(self, address: str, tls: ClientTls | None, metadata: Metadata = ()) -> None:
        self.address = address
        self.metadata = metadata
        """Of every call."""
        self.channel = model_channel(address, tls)
        self.calls: dict[str, Any] = {
            method: self.channel.unary_unary(
                f"/recmesh.v1.ModelService/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,
            )
            for method, response in METHODS.items()
        }
        self.outstanding = 0
        self.outlier = Outlier()


class AddressPool:
    """Belongs to the event loop it was made in."""

    def __init__(
        self,
        tls: ClientTls | None = None,
        clock: Callable[[], float] = time.monotonic,
        metadata: Metadata = (),
    ) -> None:
        """``tls`` None: nothing is secret; ``metadata`` goes with every call."""
        self.tls = tls
        self._metadata = metadata
        self._clock = clock
        self._replicas: dict[str, Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def outstanding(self) -> int:
        """Calls in flight."""
        return sum(replica.outstanding for replica in list(self._replicas.values()))

    def left_alone(self) -> int:
        """How many are not asked now, for what they did of late."""
        now_s = self._clock()
        return sum(1 for r in list(self._replicas.values()) if r.outlier.until_s > now_s)

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Takes the replicas that discovery knows of; an empty list changes nothing."""
        if not addresses:
            return
        self.forget(set(self._replicas) - set(addresses))
        for address in addresses:
            if address not in self._replicas:
                self._replicas[address] = Replica(address, self.tls, self._metadata)

    def forget(self, addresses: Iterable[str]) -> None:
        """No longer asks at these addresses: somebody else is there now."""
        for address in addresses:
            gone = self._replicas.pop(address, None)
            if gone is not None:
                # Calls in flight may end; the channel goes once they have.
                task = asyncio.ensure_future(gone.channel.close(grace=CLOSING_S))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def pick(self, tried: Set[str]) -> Replica | None:
        """The one with the fewest calls in flight, of those not tried and not left alone.

        When all are to be left alone, none is: they are asked as if nothing had happened, the
        one whose time is over first before its equals.
        """
        choices = [r for r in self._replicas.values() if r.address not in tried]
        now_s = self._clock()
        healthy = [r for r in choices if r.outlier.until_s <= now_s]
        if healthy:
            return min(healthy, key=lambda r: r.outstanding)
        return min(choices, key=lambda r: (r.outstanding, r.outlier.until_s), default=None)

    def other(self, than: Replica) -> Replica | None:
        """One that is not left alone, for the same call once more."""
        picked = self.pick({than.address}) if len(self._replicas) > 1 else None
        return picked if picked and picked.outlier.until_s <= self._clock() else None

    async def close(self) -> None:
        """Closes every connection."""
        await asyncio.gather(*(r.channel.close() for r in self._replicas.values()), *self._closing)
