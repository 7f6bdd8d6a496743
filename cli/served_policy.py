"""Which policy a command means: a version, a file, or what serves."""

from __future__ import annotations

from recmesh.cli.written_data import mesh_config
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.home import Home


def served_policy(home: Home, name: str = "") -> Policy:
    """A policy by version or ``.toml`` file; empty: what serves, or would once a mesh runs.

    Raises:
        NotFoundError: there is no such version.
        ConfigurationError: it cannot work in this release.
    """
    return PolicyStore(home.policies).resolve(name, mesh_config(home).orchestrator.policy_file)


def configured_text(home: Home) -> str:
    """TOML of the policy that serves while none is promoted.

    Raises:
        ConfigurationError: there is no such file, or it cannot work.
    """
    file = mesh_config(home).orchestrator.policy_file
    Policy.load(file)
    return file.read_text()
