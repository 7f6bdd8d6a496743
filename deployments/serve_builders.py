"""The mesh's own applications as Serve's declarative configuration names them, for KubeRay.

``import_path: recmesh.deployments.serve_builders:orchestrator`` and so on, with :class:`Built` as
``args``. They are the same applications that ``recmesh up`` runs; the home folder is that of
``$RECMESH_HOME``, and must be one that all nodes share. Models are run by the steward.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from recmesh.deployments.catalog_app import catalog_application
from recmesh.deployments.endpoint_discovery import discovery_application
from recmesh.deployments.mesh_config import DEFAULT_CONFIG, MeshConfig
from recmesh.deployments.mesh_token import FILE_VARIABLE, named_tokens
from recmesh.deployments.orchestrator_app import orchestrator_application
from recmesh.deployments.orchestrator_server import live_embedding
from recmesh.deployments.steward import steward_application
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home


class Built(BaseModel):
    """What an application is made of: ``args`` in Serve's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Path = DEFAULT_CONFIG
    """The mesh's configuration on every node."""
    owners: str = ""
    """Folder of the owners' files on every node; empty: there is none. For the steward."""
    replicas: int = 2
    """Of what tells Envoys where the others are."""


def _index_uri(config: MeshConfig, home: Home) -> str:
    """The vector index; empty when nothing is indexed yet."""
    if live_embedding(home) is None:
        return ""
    if not config.vector_index.uri:
        raise ConfigurationError(
            "vector_index.uri is empty: no process runs the embedded Milvus beside a cluster; name "
            "a Milvus server, as RECMESH_VECTOR_INDEX__URI=http://milvus:19530"
        )
    return config.vector_index.uri


def _loaded(args: Mapping[str, Any]) -> tuple[Built, MeshConfig, Home]:
    built = Built.model_validate(args)
    home = Home.from_environment()
    config = MeshConfig.load(built.config, home)
    if not config.ray.address:
        raise ConfigurationError(
            'ray.address is empty, so replicas would listen on the loopback only; say "auto"'
        )
    if config.edge.secure != bool(named_tokens()):
        raise ConfigurationError(
            f"edge.secure is {str(config.edge.secure).lower()}, so {FILE_VARIABLE} must "
            f"{'' if config.edge.secure else 'not '}be set: it says how replicas know a secure edge"
        )
    return built, config, home


def orchestrator(args: dict[str, Any]) -> serve.Application:
    """The orchestrators. Raises what :func:`orchestrator_application` does."""
    _, config, home = _loaded(args)
    return orchestrator_application(config, home, _index_uri(config, home)).target


def catalog(args: dict[str, Any]) -> serve.Application:
    """The writer of catalog and events."""
    _, config, home = _loaded(args)
    return catalog_application(config, home, _index_uri(config, home)).target


def steward(args: dict[str, Any]) -> serve.Application:
    """What runs the models."""
    built, config, home = _loaded(args)
    # Beside the writer: owners' files are on nodes of the mesh's own, not on those of models.
    labels = config.catalog.node_labels
    return steward_application(built.config, home, built.owners, labels).target


def discovery(args: dict[str, Any]) -> serve.Application:
    """What tells Envoys where the others are."""
    return discovery_application(Built.model_validate(args).replicas).target
