"""Models that run at addresses of their own: found in the configuration, and dialled."""

from __future__ import annotations

from typing import Any

from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.mesh_config import MeshConfig, ModelTable


def external_models(config: MeshConfig) -> dict[str, dict[str, Any]]:
    """What :func:`dial` needs to know of every external model, as plain values.

    Raises:
        ConfigurationError: a certificate or key is not what it should be. Files are looked at
            where they are read: here, unless the mesh runs on another cluster.
    """
    tables = {name: table for name, table in config.models.items() if table.addresses}
    if not config.ray.address:
        for table in tables.values():
            if table.tls is not None:
                table.tls.credentials()
    return {name: place_of(table) for name, table in tables.items()}


def place_of(table: ModelTable) -> dict[str, Any]:
    """Where one external model is, and how it is spoken to."""
    return {
        "addresses": list(table.addresses),
        "tls": table.tls.model_dump() if table.tls else None,
    }


def dial(name: str, place: dict[str, Any]) -> GrpcModelClient:
    """A client of an external model.

    Raises:
        ConfigurationError: as :func:`external_models`.
    """
    tls = ClientTls(**place["tls"]) if place["tls"] else None
    return GrpcModelClient(name, place["addresses"], pinned=True, tls=tls)
