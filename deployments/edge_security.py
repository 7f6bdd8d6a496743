"""What a secure edge knows: whom to believe, and what each caller may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recmesh.deployments.caller_table import CallerTable


@dataclass(frozen=True, slots=True)
class EdgeSecurity:
    """Settings of TLS, callers and the access log. Files are absolute paths."""

    certificate: Path
    key: Path
    authority: Path
    """Signs callers' certificates."""
    token_keys: Path | None
    """JWKS that tokens are verified with; None: no token is believed."""
    callers: Mapping[str, CallerTable]
    access_log: Path
    token_issuer: str = "recmesh"
    token_audience: str = "recmesh"
    mesh_token: Path | None = None
    """File with what says to replicas that a call comes from inside the mesh; None: they do not
    ask."""
    health_per_s: int = 100
    """Health checks from outside; they need no credentials."""
