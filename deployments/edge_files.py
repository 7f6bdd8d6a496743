"""From the configuration to what a secure edge is told: files are found, made and checked."""

from __future__ import annotations

from pathlib import Path

import jwt

from recmesh.deployments.development_credentials import DevelopmentCredentials, Pair
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.edge_security import EdgeSecurity
from recmesh.deployments.envoy_tracing import EdgeTracing
from recmesh.deployments.ip_address import split_address
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.mesh_token import shown_token_file
from recmesh.deployments.tls_files import read_authority, read_pair
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


def edge_security(config: MeshConfig, home: Home) -> EdgeSecurity | None:
    """What the configuration says; None where the edge is not secure.

    Makes development certificates where it names none.

    Raises:
        ConfigurationError: a file is not what it should be; says the fix.
    """
    edge = config.edge
    if not edge.secure:
        return None
    made = DevelopmentCredentials(home.credentials)
    pair, authority = made.edge, made.authority
    # Whoever brings certificates of their own does not mean to believe a development key.
    token_keys = None if edge.certificate else made.token_keys
    if edge.certificate:
        pair, authority = Pair(Path(edge.certificate), Path(edge.key)), Path(edge.authority)
    else:
        make_credentials(config, home)
    read_pair(pair.certificate, pair.key)
    read_authority(authority)
    if edge.token_keys:
        token_keys = Path(edge.token_keys)
        _check_keys(token_keys)
    return EdgeSecurity(
        certificate=pair.certificate.resolve(),
        key=pair.key.resolve(),
        authority=authority.resolve(),
        token_keys=token_keys.resolve() if token_keys else None,
        callers=config.callers,
        access_log=(home.run / "edge-access.log").resolve(),
        token_issuer=edge.token_issuer,
        token_audience=edge.token_audience,
        mesh_token=shown_token_file(home).resolve(),
    )


def edge_config(config: MeshConfig, security: EdgeSecurity | None) -> EdgeConfig:
    """All of the edge's settings that the configuration says."""
    told = config.telemetry
    tracing = EdgeTracing(told.otlp_endpoint, told.sample_ratio) if told.otlp_endpoint else None
    return EdgeConfig(address=config.edge.address, security=security, tracing=tracing)


def make_credentials(config: MeshConfig, home: Home) -> None:
    """Makes development certificates, or those anew that end soon. Raises ConfigurationError."""
    host, _ = split_address(config.edge.address)
    DevelopmentCredentials(home.credentials).make(config.callers, host)


def _check_keys(file: Path) -> None:
    try:
        jwt.PyJWKSet.from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the keys in {file}: {error.strerror}") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise ConfigurationError(
            f"{file} is no JWKS ({error}); edge.token_keys needs the JSON that an identity "
            "provider publishes, with at least one public key"
        ) from error
