"""The edge's settings. What Envoy makes of them: :mod:`recmesh.deployments.envoy_config`."""

from __future__ import annotations

from dataclasses import dataclass, field

from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.envoy_tracing import EdgeTracing
from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES
from recmesh.deployments.ip_address import DEFAULT_ADDRESS


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried at another replica, always within the caller's deadline."""

    attempts: int = 3
    base_s: float = 0.005
    max_s: float = 0.1
    budget_percent: float = 50.0
    """Retries in flight, as a share of calls in flight, above ``min_concurrency``."""
    min_concurrency: int = 100


@dataclass(frozen=True, slots=True)
class HealthChecks:
    """``grpc.health.v1`` checks of every replica."""

    interval_s: float = 1.0
    timeout_s: float = 0.5
    unhealthy_after: int = 2
    healthy_after: int = 1


@dataclass(frozen=True, slots=True)
class Ejection:
    """When a replica that fails calls is left out, and for how long."""

    after_failures: int = 5
    """Answers UNAVAILABLE or lost connections in a row."""
    interval_s: float = 1.0
    base_s: float = 2.0
    max_s: float = 30.0
    max_percent: int = 50
    """Share of the replicas that may be out at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the edge takes before it says no."""

    message_bytes: int = MAX_MESSAGE_BYTES
    """Largest request message; the replicas' own limit."""
    calls: int = 1024
    """Calls at the replicas at once; more end with RESOURCE_EXHAUSTED."""
    waiting_calls: int = 1024
    """Calls that wait for a connection to a replica."""
    connections: int = 4096
    """Of callers, at once; more are closed as soon as they are made."""
    heap_bytes: int = 3 * 1024**3
    """Memory of Envoy itself. From nine tenths on the largest requests end, and shortly before it
    is full no more are taken, with UNAVAILABLE: another edge may have room."""
    streams_per_connection: int = 1000
    connect_s: float = 0.5
    handshake_s: float = 5.0
    """How long a caller's connection may take to become a secret one."""
    call_s: float = 60.0
    """Longest unary call, whatever deadline its caller sends."""
    stream_s: float = 3600.0
    """Longest streaming call."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """The edge's settings."""

    address: str = DEFAULT_ADDRESS
    """``host:port`` that callers use; port 0 picks a free one."""
    limits: Limits = field(default_factory=Limits)
    retries: Retries = field(default_factory=Retries)
    health: HealthChecks = field(default_factory=HealthChecks)
    ejection: Ejection = field(default_factory=Ejection)
    security: EdgeSecurity | None = None
    """None: plaintext, and whoever reaches the address may do everything."""
    tracing: EdgeTracing | None = None
    """None: no request is traced."""
