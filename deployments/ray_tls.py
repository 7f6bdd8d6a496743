"""TLS between the processes of Ray, where the cluster is a secure mesh's own.

Ray reads these variables once, when a process imports it. So ``recmesh up`` starts itself again
with them; what Ray starts inherits them; and a command that joins sets them before it imports Ray.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from recmesh.deployments.mesh_record import MeshRecord, running_mesh
from recmesh.storage.home import Home


def tls_variables(home: Home) -> dict[str, str]:
    """Of every process of the cluster, by name: each shows one certificate, and believes it alone.

    It is :attr:`DevelopmentCredentials.ray`, and must be there before Ray is.
    """
    certificate = str(home.credentials / "ray.pem")
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": certificate,
        "RAY_TLS_SERVER_KEY": str(home.credentials / "ray.key"),
        "RAY_TLS_CA_CERT": certificate,
    }


def speaks_tls(mesh: MeshRecord) -> bool:
    """Whether the Ray cluster of a mesh is reached with :func:`tls_variables` only."""
    return mesh.secure and mesh.own_cluster


def joining_variables(home: Home) -> dict[str, str]:
    """What a process needs to join the cluster of the mesh that runs; empty: nothing."""
    mesh = running_mesh(home)
    return tls_variables(home) if mesh is not None and speaks_tls(mesh) else {}


def are_set(variables: Mapping[str, str]) -> bool:
    """Whether this process was started with them, or set them."""
    return variables.items() <= os.environ.items()


def start_again_with(variables: Mapping[str, str]) -> None:
    """Puts this process in its own place, under the same id, with more variables.

    Returns where they are set, and only there.
    """
    if not are_set(variables):
        sys.stdout.flush()
        sys.stderr.flush()
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **variables})
