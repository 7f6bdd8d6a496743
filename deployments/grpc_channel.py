"""Connections between parts of the mesh, and from the mesh to models elsewhere."""

from __future__ import annotations

import json

import grpc
import grpc.aio

from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A node that vanishes without closing its connections is noticed by these.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Retries are this client's own: they go to another replica.
    ("grpc.enable_retries", 0),
    # Two clients of one process must not share a connection's fate.
    ("grpc.use_local_subchannel_pool", 1),
)

HEALTH_CHECKED: tuple[tuple[str, str], ...] = (
    (
        "grpc.service_config",
        # gRPC itself watches grpc.health.v1 of the connection: while that says NOT_SERVING, calls
        # end at once and unsent. It takes a server without the health service as one that serves.
        # Its default balancer, pick_first, does not look at health.
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "healthCheckConfig": {"serviceName": ""},
            }
        ),
    ),
)


TLS_HANDSHAKE_MS = 2_000
"""A connection may take so long where it is made in secret, and so from far away as a rule."""


def model_channel(address: str, tls: ClientTls | None) -> grpc.aio.Channel:
    """A connection to one address of a model, begun now: second attempts must find it made.

    Raises:
        ConfigurationError: a file that ``tls`` names is not what it should be.
    """
    options = dict((*CHANNEL_OPTIONS, *HEALTH_CHECKED))
    if tls is None:
        channel = grpc.aio.insecure_channel(address, options=tuple(options.items()))
    else:
        options |= {"grpc.min_reconnect_backoff_ms": TLS_HANDSHAKE_MS, **dict(tls.options)}
        channel = grpc.aio.secure_channel(address, tls.credentials(), tuple(options.items()))
    channel.get_state(try_to_connect=True)
    return channel
