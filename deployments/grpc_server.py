"""A grpc.aio server as every replica of ours runs it: limits, health, reflection."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import ExitStack

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from recmesh.deployments.call_meter import CallMeter
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.telemetry.mesh_measures import MEASURES, REQUESTS_IN_FLIGHT

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A taken port must be an error, not a second listener that steals half the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


class GrpcServer:
    """One listening server. Register servicers on :attr:`server`, then start it."""

    def __init__(
        self,
        services: Sequence[str],
        max_concurrent_rpcs: int = 1000,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """``services`` are the full names that health and reflection answer for."""
        self._services = tuple(services)
        self._measured = ExitStack()
        self.meter = CallMeter()
        self.server = grpc.aio.server(
            interceptors=interceptors, options=OPTIONS, maximum_concurrent_rpcs=max_concurrent_rpcs
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection.enable_server_reflection(
            (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server
        )

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens on ``host:port``; port 0 picks a free one. Returns the port.

        With ``credentials`` it speaks TLS.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        try:
            port: int = (
                self.server.add_secure_port(address, credentials)
                if credentials
                else self.server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {address}: {error}; is another process using the port?"
            ) from error
        await self.server.start()
        # What is there now stays: to walk it in every full collection stops all calls for 0.1 s.
        gc.collect()
        gc.freeze()
        self._measured.enter_context(MEASURES.refreshed_by(self._refresh_measures))
        for service in ("", *self._services):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace_s: float) -> None:
        """Says NOT_SERVING, refuses new calls, lets those in flight end within ``grace_s``."""
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace_s)
        self._measured.close()

    def _refresh_measures(self) -> None:
        REQUESTS_IN_FLIGHT.set(self.meter.inflight)
