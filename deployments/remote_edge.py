"""What an Envoy that runs apart from the mesh is told: the edge's bootstrap, with other discovery.

Listeners, callers, routes, limits, retries and health checks are those of
:func:`recmesh.deployments.envoy_config.bootstrap`, the one source; only where replicas are comes
from :mod:`recmesh.deployments.endpoint_discovery` instead of from files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.envoy_config import CLUSTERS, bootstrap
from recmesh.deployments.ip_address import split_address
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.storage.errors import ConfigurationError

DISCOVERY = "discovery"
"""Name of the cluster that is asked where replicas are."""
ADMIN = "admin"
"""Name of the cluster that leads to Envoy's own admin interface."""
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
POLL_S = 1.0
ANSWER_S = 0.8
ADMIN_SOCKET = Path("/tmp/envoy-admin")
SECRETS = Path("/etc/envoy")
SHOWN = ("/ready", "/stats/prometheus")
"""All of the admin interface that others see: it can also end Envoy."""


def remote_bootstrap(
    config: EdgeConfig,
    discovery: str,
    shown_port: int,
    admin: Path = ADMIN_SOCKET,
    secrets: Path = SECRETS,
) -> str:
    """Envoy's bootstrap.

    Args:
        config: of the edge; ``address`` is what Envoy listens on.
        discovery: ``host:port`` of Serve's HTTP proxies; a name is resolved again and again.
        shown_port: readiness and metrics are offered here.
        admin: Unix socket of Envoy's admin interface.
        secrets: folder of the files of :func:`~recmesh.deployments.envoy_secrets.secrets`, read
            where ``config.security`` says something.
    """
    host, port = split_address(config.address)
    # The files are never read: each cluster's source is replaced below.
    files = {name: Path("/dev/null") for name in CLUSTERS}
    told: dict[str, Any] = json.loads(bootstrap(config, host, port, files, admin, secrets))
    resources = told["static_resources"]
    for cluster in resources["clusters"]:
        if cluster["name"] in CLUSTERS:
            cluster["eds_cluster_config"] = {"eds_config": _asked()}
    resources["clusters"] += [_discovery(discovery), _admin(admin)]
    resources["listeners"].append(_shown(host, shown_port))
    # Lines, so that changes show, without indents: those would be two thirds of what a caller adds,
    # and kubectl apply takes 256 KiB.
    return json.dumps(told, indent=0)


def remote_security(config: MeshConfig, mesh_token: Path, access_log: Path) -> EdgeSecurity | None:
    """What the configuration says of callers and files, which are where Envoy runs and not read.

    Args:
        config: of the mesh.
        mesh_token: what Envoy shows replicas.
        access_log: what it writes calls to.

    Returns:
        None where the edge is not secure.

    Raises:
        ConfigurationError: no certificate is named.
    """
    edge = config.edge
    if not edge.secure:
        return None
    if not edge.certificate:
        raise ConfigurationError(
            "edge.certificate, key and authority are empty: nobody makes certificates for an edge "
            "apart; name the files that are mounted there"
        )
    return EdgeSecurity(
        certificate=Path(edge.certificate),
        key=Path(edge.key),
        authority=Path(edge.authority),
        token_keys=Path(edge.token_keys) if edge.token_keys else None,
        callers=config.callers,
        access_log=access_log,
        token_issuer=edge.token_issuer,
        token_audience=edge.token_audience,
        mesh_token=mesh_token,
    )


def _asked() -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        # Envoy opens without a group of which it hears nothing: pages need no writer.
        "initial_fetch_timeout": "2s",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [DISCOVERY],
            "refresh_delay": f"{POLL_S}s",
            "request_timeout": f"{ANSWER_S}s",
        },
    }


def _discovery(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {
        "name": DISCOVERY,
        # Resolved again as pods come and go; a name without an answer keeps the last addresses.
        "type": "STRICT_DNS",
        # Serve's proxies listen on IPv4, also where a name has both.
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "0.5s",
        "typed_extension_protocol_options": {
            _HTTP: {
                "@type": f"type.googleapis.com/{_HTTP}",
                "explicit_http_config": {"http_protocol_options": {}},
                # Behind one address another cluster takes over: a connection that is kept would go
                # on asking the one before, until it ends under its calls.
                "common_http_protocol_options": {"max_requests_per_connection": 1},
            }
        },
        "load_assignment": _assigned(
            DISCOVERY, {"socket_address": {"address": host, "port_value": int(port)}}
        ),
    }


def _admin(socket: Path) -> dict[str, Any]:
    return {
        "name": ADMIN,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": _assigned(ADMIN, {"pipe": {"path": str(socket)}}),
    }


def _assigned(name: str, address: dict[str, Any]) -> dict[str, Any]:
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }


def _shown(host: str, port: int) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "shown",
        "route_config": {
            "name": "shown",
            "virtual_hosts": [
                {
                    "name": "shown",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"path": path}, "route": {"cluster": ADMIN}} for path in SHOWN
                    ],
                }
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "shown",
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
        ],
    }
