"""Where a secure edge's Envoy finds its certificate, whom to believe, and what it shows replicas:
in files, which it reads again when they are replaced, so that no secret stands in its bootstrap.
Pure functions, as in :mod:`recmesh.deployments.envoy_config`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recmesh.deployments.edge_security import EdgeSecurity

Json = dict[str, Any]

CERTIFICATE, AUTHORITY, MESH_TOKEN = "certificate", "authority", "mesh-token"
"""Names of secrets, and of their files."""
_TYPES = "type.googleapis.com/envoy"


def tls(directory: Path) -> Json:
    """The listener's transport socket; ``directory`` holds the files of :func:`secrets`."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            # Health needs no certificate, and a token may stand for one.
            "require_client_certificate": False,
            "common_tls_context": {
                # Whoever speaks both sends JSON, and some clients of HTTP/2 do not read a refusal
                # that comes before they have sent all. gRPC speaks h2 alone.
                "alpn_protocols": ["http/1.1", "h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [source(CERTIFICATE, directory)],
                "validation_context_sds_secret_config": source(AUTHORITY, directory),
            },
        },
    }


def secrets(security: EdgeSecurity) -> dict[str, str]:
    """Files, by name, that tell Envoy where secrets are and to look again when they change."""
    certificate = {
        "name": CERTIFICATE,
        "tls_certificate": {
            "certificate_chain": {"filename": str(security.certificate)},
            "private_key": {"filename": str(security.key)},
            "watched_directory": {"path": str(security.certificate.parent)},
        },
    }
    authority = {
        "name": AUTHORITY,
        "validation_context": {
            "trusted_ca": {"filename": str(security.authority)},
            "watched_directory": {"path": str(security.authority.parent)},
        },
    }
    told = [certificate, authority]
    if security.mesh_token is not None:
        token = {"secret": {"filename": str(security.mesh_token)}}
        told.append({"name": MESH_TOKEN, "generic_secret": token})
    kind = f"{_TYPES}.extensions.transport_sockets.tls.v3.Secret"
    return {
        f"{one['name']}.json": json.dumps({"resources": [{"@type": kind, **one}]}, indent=2)
        for one in told
    }


def source(name: str, directory: Path) -> Json:
    """Where Envoy takes a secret from: a file of :func:`secrets` in ``directory``."""
    return {
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": str(directory / f"{name}.json")},
        },
    }
