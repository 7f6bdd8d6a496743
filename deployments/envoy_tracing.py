"""How the edge's Envoy takes part in traces: its spans, and whether a request is traced.

A request that comes without a ``traceparent`` begins a trace here, and this decides whether it is
recorded. Of a request's path only its first letter is kept: callers may write a doctor into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

CLUSTER = "otlp"
_TYPES = "type.googleapis.com/envoy"
SERVICE = "recmesh-edge"
FLUSH_MS = 1000
"""Between two messages to the collector."""


@dataclass(frozen=True, slots=True)
class EdgeTracing:
    """Where spans go, and how many requests have some."""

    endpoint: str
    """``http://host:port`` or ``https://host:port`` of an OTLP collector."""
    sample_ratio: float
    """Share of requests whose callers do not say, in [0, 1]."""


def tracing(settings: EdgeTracing) -> Json:
    """The HTTP connection manager's ``tracing``."""
    return {
        # All of them go to the sampler below: what this left out, no caller could have traced.
        "random_sampling": {"value": 100.0},
        "max_path_tag_length": 1,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{_TYPES}.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}, "timeout": "2s"},
                "service_name": SERVICE,
                "sampler": _sampler(settings.sample_ratio),
            },
        },
    }


def _sampler(ratio: float) -> Json:
    """As its caller decided; where none did, a share."""
    samplers = f"{_TYPES}.extensions.tracers.opentelemetry.samplers.v3"
    share = {
        "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "typed_config": {
            "@type": f"{samplers}.TraceIdRatioBasedSamplerConfig",
            "sampling_percentage": {
                "numerator": round(1_000_000 * ratio),
                "denominator": "MILLION",
            },
        },
    }
    return {
        "name": "envoy.tracers.opentelemetry.samplers.parent_based",
        "typed_config": {
            "@type": f"{samplers}.ParentBasedSamplerConfig",
            "wrapped_sampler": share,
        },
    }


def collector(settings: EdgeTracing) -> Json:
    """The cluster that is the collector."""
    place = urlsplit(settings.endpoint)
    address = {"socket_address": {"address": place.hostname, "port_value": place.port}}
    cluster: Json = {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    if place.scheme == "https":
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": place.hostname,
                "common_tls_context": {
                    "validation_context": {
                        "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": place.hostname}}
                        ],
                    }
                },
            },
        }
    return cluster


def runtime() -> Json:
    """The bootstrap's ``layered_runtime``."""
    flush = {"tracing.opentelemetry.flush_interval_ms": FLUSH_MS}
    return {"layers": [{"name": "tracing", "static_layer": flush}]}
