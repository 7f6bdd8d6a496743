"""Ray on the loopback alone, where all of its cluster is on this machine.

Neither Ray nor Ray Serve has a setting for it; what is done here goes by the source of the version
that is pinned, and ``tests/mesh/test_commands.py`` looks at the sockets of a whole mesh.
"""

from __future__ import annotations

import os

import ray.util
from ray._private import ray_constants

from recmesh.deployments.ip_address import LOOPBACK


def stay_on_loopback() -> None:
    """Has Ray keep 127.0.0.1, in this process and in those that it starts.

    On Linux Ray puts the machine's address in its place, so that nodes elsewhere can join, and
    listens on every interface. Where clusters of several machines are off, the default on macOS,
    it does not. Who joins must say the same, or looks for the node at the machine's address.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    # Read from the variable when Ray was imported.
    ray_constants.ENABLE_RAY_CLUSTER = False


def replica_host(host: str) -> str:
    """Where the Serve replica that this process is listens: ``host``; empty: its node's address.

    To be asked in its constructor. Serve then opens a port of its own for calls through handles,
    on every interface; with a replica on the loopback that port is there, too.
    """
    if host != LOOPBACK:
        return host or str(ray.util.get_node_ip_address())
    # Imported by Serve already, and by nobody who is no replica: it takes a second.
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: add_port(server, f"{LOOPBACK}:0")
    return host
