"""What the edge's Envoy is told: one static bootstrap, one file of replica addresses.

Pure functions from typed settings to JSON. Field names and meanings are Envoy's v3 API;
the reasons for the values are in ``docs/edge.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recmesh.deployments import envoy_overload, envoy_secrets, envoy_security, envoy_tracing
from recmesh.deployments.caller import GIVEN_KEY
from recmesh.deployments.edge_config import EdgeConfig, Limits
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.ip_address import split_address
from recmesh.v1 import catalog_pb2, feedback_pb2, recommendation_pb2, trial_pb2

Json = dict[str, Any]

ORCHESTRATOR = "orchestrator"
CATALOG = "catalog"
CLUSTERS = (ORCHESTRATOR, CATALOG)
"""Groups of replicas that calls are led to."""
GRPC_FRAME_BYTES = 5
"""gRPC puts a flag and a length before every message."""

_INTERNAL = f"/{trial_pb2.DESCRIPTOR.services_by_name['TrialService'].full_name}/"
"""Replicas offer it to commands, not to callers."""
_WRITTEN = tuple(
    f"/{module.DESCRIPTOR.services_by_name[name].full_name}/"
    for module, name in ((catalog_pb2, "CatalogService"), (feedback_pb2, "FeedbackService"))
)
"""Paths of the services that the writer answers."""
_TYPES = "type.googleapis.com/envoy"
_UNARY_RETRIES = "connect-failure,refused-stream,reset-before-request,reset,unavailable"
# A stream that has begun holds state at its replica; only its opening may be repeated.
_STREAM_RETRIES = "connect-failure,refused-stream,reset-before-request"
_RESOURCE_EXHAUSTED = "8"
_NOBODY = {"address_prefix": "255.255.255.255", "prefix_len": 32}


def streaming_methods() -> list[str]:
    """HTTP paths of the contract's methods whose callers send a stream."""
    return [path for path, streams in _contract() if streams]


def methods() -> list[str]:
    """HTTP paths of the contract's methods."""
    return [path for path, _ in _contract()]


def _contract() -> Iterator[tuple[str, bool]]:
    for module in (catalog_pb2, feedback_pb2, recommendation_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method.client_streaming


def endpoints(addresses: Sequence[str], cluster: str = ORCHESTRATOR) -> str:
    """The EDS file for a cluster's replicas at ``addresses``.

    Raises:
        ConfigurationError: an address is not ``ip:port``.
    """
    found = [{"endpoint": {"address": _socket(*split_address(address))}} for address in addresses]
    assignment = {
        "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": found}] if found else [],
    }
    return json.dumps({"resources": [assignment]}, indent=2)


def bootstrap(
    config: EdgeConfig,
    host: str,
    port: int,
    eds_files: Mapping[str, Path],
    admin: Path,
    secrets: Path,
) -> str:
    """Envoy's bootstrap: listens on ``host:port``.

    ``eds_files`` tell every cluster's replicas; ``admin`` is the Unix socket of Envoy's admin
    interface; the folder ``secrets`` has the files of :func:`~.envoy_secrets.secrets`.
    """
    clusters = [_cluster(config, name, file) for name, file in eds_files.items()]
    whole: Json = {
        "node": {"id": "recmesh-edge", "cluster": "recmesh-edge"},
        # Whoever looks after an edge that is full must get in.
        "admin": {
            "address": {"pipe": {"path": str(admin), "mode": 0o600}},
            "ignore_global_conn_limit": True,
        },
        "overload_manager": envoy_overload.manager(config.limits),
        "static_resources": {
            "listeners": [_listener(config, host, port, secrets)],
            "clusters": clusters,
        },
    }
    if config.tracing is not None:
        clusters.append(envoy_tracing.collector(config.tracing))
        whole["layered_runtime"] = envoy_tracing.runtime()
    return json.dumps(whole, indent=2)


def _socket(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"


def _listener(config: EdgeConfig, host: str, port: int, secrets: Path) -> Json:
    security = config.security
    http = {
        "@type": (
            f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": "edge",
        # JSON is for callers that are known: any web page may send some to the loopback.
        "codec_type": "AUTO" if security else "HTTP2",
        "server_header_transformation": "PASS_THROUGH",
        # Nobody outside may steer retries and timeouts with x-envoy-* headers.
        "use_remote_address": True,
        # An empty list of ranges would mean all private addresses, the loopback among them.
        "internal_address_config": {"cidr_ranges": [_NOBODY]},
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "5s",
        "http2_protocol_options": {"max_concurrent_streams": config.limits.streams_per_connection},
        "local_reply_config": {
            "mappers": [*_local_replies(), *(envoy_security.refusals() if security else ())]
        },
        "http_filters": [
            *(envoy_security.filters(security, secrets) if security else ()),
            _buffer(config.limits),
            _router(),
        ],
        "route_config": {
            "name": "edge",
            "virtual_hosts": [
                {
                    "name": "mesh",
                    "domains": ["*"],
                    "routes": _routes(config),
                    **_headers_for_replicas(security),
                }
            ],
        },
    }
    chain: Json = {"filters": [{"name": "envoy.http_connection_manager", "typed_config": http}]}
    if security:
        http["access_log"] = envoy_security.access_log(security)
        chain["transport_socket"] = envoy_secrets.tls(secrets)
        # Who connects and then says nothing holds no connection for long.
        chain["transport_socket_connect_timeout"] = _seconds(config.limits.handshake_s)
    if config.tracing is not None:
        http["tracing"] = envoy_tracing.tracing(config.tracing)
    return {
        "name": "edge",
        "address": _socket(host, port),
        # A taken port must be an error, not a second listener that steals half the calls.
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }


def _headers_for_replicas(security: EdgeSecurity | None) -> Json:
    """What every call carries on: also how much time it was given, part of which may be gone."""
    given = {
        "header": {"key": GIVEN_KEY, "value": "%REQ(grpc-timeout)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    headers: Json = {"request_headers_to_add": [given]}
    if security:
        headers["request_headers_to_remove"] = [envoy_security.IDENTITY]
    return headers


def _local_replies() -> list[Json]:
    """Envoy's own refusals, in the codes of the contract.

    Left alone, 413 (request too large) becomes UNKNOWN and an open circuit breaker
    (response flag UO) UNAVAILABLE, which callers would retry into the overload.
    """
    too_large = {
        "status_code_filter": {
            "comparison": {
                "op": "EQ",
                "value": {"default_value": 413, "runtime_key": "edge.too_large"},
            }
        }
    }
    overflow = {"response_flag_filter": {"flags": ["UO"]}}
    status = {
        "header": {"key": "grpc-status", "value": _RESOURCE_EXHAUSTED},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return [{"filter": which, "headers_to_add": [status]} for which in (too_large, overflow)]


def _buffer(limits: Limits) -> Json:
    return {
        "name": "envoy.filters.http.buffer",
        "typed_config": {
            "@type": f"{_TYPES}.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": limits.message_bytes + GRPC_FRAME_BYTES,
        },
    }


def _router() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_TYPES}.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }


def _routes(config: EdgeConfig) -> list[Json]:
    unbuffered = {
        "envoy.filters.http.buffer": {
            "@type": f"{_TYPES}.extensions.filters.http.buffer.v3.BufferPerRoute",
            "disabled": True,
        }
    }

    def cluster(path: str) -> str:
        return CATALOG if path.startswith(_WRITTEN) else ORCHESTRATOR

    limits, streams = config.limits, streaming_methods()
    routes: list[Json] = [{"match": {"prefix": _INTERNAL}, "direct_response": {"status": 404}}]
    for path in streams:
        route = {"match": {"path": path}, "name": path[1:]}
        route["route"] = _action(config, _STREAM_RETRIES, limits.stream_s, cluster(path))
        # A stream never ends in time to be held back whole; replicas limit its messages.
        route["typed_per_filter_config"] = unbuffered
        routes.append(route)
    # An access log names a method by its route; of other paths it says nothing.
    unary = [path for path in methods() if path not in streams] if config.security else []
    prefixes = [*_WRITTEN, "/"]
    for kind, where in [*(("path", p) for p in unary), *(("prefix", p) for p in prefixes)]:
        route = {"match": {kind: where, "grpc": {}}}
        if kind == "path":
            route["name"] = where[1:]
        route["route"] = _action(config, _UNARY_RETRIES, limits.call_s, cluster(where))
        routes.append(route)
    return routes


def _action(
    config: EdgeConfig, retry_on: str, longest_s: float, cluster: str = ORCHESTRATOR
) -> Json:
    retries = config.retries
    return {
        "cluster": cluster,
        # The caller's grpc-timeout rules, up to the limit; Envoy's own 15 s would cut it.
        "timeout": "0s",
        "max_stream_duration": {
            "max_stream_duration": _seconds(longest_s),
            "grpc_timeout_header_max": _seconds(longest_s),
        },
        "retry_policy": {
            "retry_on": retry_on,
            "num_retries": retries.attempts,
            "retry_back_off": {
                "base_interval": _seconds(retries.base_s),
                "max_interval": _seconds(retries.max_s),
            },
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": (
                            f"{_TYPES}.extensions.retry.host.previous_hosts.v3"
                            ".PreviousHostsPredicate"
                        )
                    },
                }
            ],
            "host_selection_retry_max_attempts": 5,
        },
    }


def _cluster(config: EdgeConfig, name: str, eds_file: Path) -> Json:
    limits, retries, health, ejection = (
        config.limits,
        config.retries,
        config.health,
        config.ejection,
    )
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": str(eds_file)},
            }
        },
        "connect_timeout": _seconds(limits.connect_s),
        "lb_policy": "LEAST_REQUEST",
        # With nobody known to be healthy try everybody; otherwise only the healthy.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1.0}},
        # Calls stop at a replica when it is taken out, not when its check fails.
        "ignore_health_on_host_removal": True,
        "health_checks": [
            {
                "interval": _seconds(health.interval_s),
                "no_traffic_interval": _seconds(health.interval_s),
                "timeout": _seconds(health.timeout_s),
                "unhealthy_threshold": health.unhealthy_after,
                "healthy_threshold": health.healthy_after,
                "grpc_health_check": {},
            }
        ],
        "outlier_detection": {
            "interval": _seconds(ejection.interval_s),
            "base_ejection_time": _seconds(ejection.base_s),
            "max_ejection_time": _seconds(ejection.max_s),
            "max_ejection_percent": ejection.max_percent,
            "consecutive_gateway_failure": ejection.after_failures,
            "enforcing_consecutive_gateway_failure": 100,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": ejection.after_failures,
            # A request that breaks every replica alike must not take them all out.
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_requests": limits.calls,
                    "max_pending_requests": limits.waiting_calls,
                    "retry_budget": {
                        "budget_percent": {"value": retries.budget_percent},
                        "min_retry_concurrency": retries.min_concurrency,
                    },
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
