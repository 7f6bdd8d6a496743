"""The Ray cluster that the mesh runs on: one of its own on this machine, or a running one."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve
from ray.exceptions import AuthenticationError
from ray.serve.config import ProxyLocation

from recmesh.deployments.ip_address import LOOPBACK
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.ray_loopback import stay_on_loopback
from recmesh.deployments.ray_tls import are_set, speaks_tls, tls_variables
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home

NAMESPACE = "recmesh"
OBJECT_STORE_BYTES = 200_000_000
"""Enough for control messages; requests do not go through the object store."""
LEAST_CPUS = 2

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Ray reads them once in the life of a process."""

REACH_S = 3.0


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray replaces handlers of signals, but what stops this process is not Ray's to say."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _token_file(home: Home) -> Path:
    return home.run / "ray-token"


def _make_token(home: Home, *, joined: bool) -> None:
    """``joined``: commands find it in the home folder."""
    token = secrets.token_hex(32)
    if not joined:
        # The file is the mesh's that may run here meanwhile.
        os.environ["RAY_AUTH_TOKEN"] = token
        return
    file = _token_file(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(token)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(file)


def _environment_has_token() -> bool:
    return any(variable in os.environ for variable in TOKEN_VARIABLES)


def start_cluster(
    home: Home,
    num_cpus: float,
    *,
    serving: bool = True,
    object_store_bytes: int = OBJECT_STORE_BYTES,
) -> str:
    """Starts a cluster that ends with this process, however it ends. Returns its address.

    It listens on the loopback alone, and only who can read the home folder can join it.
    ``num_cpus`` 0 is this machine's, at least 2: replicas reserve fractions of them. Not
    ``serving``, it is for this process' tasks only, and nobody joins; ``object_store_bytes`` is for
    what they share.
    """
    if not _environment_has_token():
        _make_token(home, joined=serving)
    stay_on_loopback()
    with _own_signals():
        context = ray.init(
            address="local",
            num_cpus=num_cpus or max(os.cpu_count() or 1, LEAST_CPUS),
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace=NAMESPACE,
            _node_ip_address=LOOPBACK,
        )
    if serving:
        _start_serve()
    return str(context.address_info["gcs_address"])


def join_cluster(home: Home, address: str, *, serving: bool = True) -> None:
    """Connects this process to a running cluster: the home folder's own, or another one.

    ``serving``: Serve is to run on it.

    Raises:
        UnavailableError: there is none, it does not take the token, or speaks TLS and this
            process cannot.
    """
    if not _environment_has_token() and _token_file(home).is_file():
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token_file(home))
    mesh = running_mesh(home)
    if mesh is not None and mesh.own_cluster and mesh.ray_address == address:
        if speaks_tls(mesh) and not are_set(tls_variables(home)):
            # Ray would try for minutes.
            raise UnavailableError(
                f"the Ray cluster at {address} speaks TLS, and this process imported Ray without "
                "its certificate: import recmesh.deployments first, while the mesh runs"
            )
        stay_on_loopback()
    try:
        _reach(address)
        with _own_signals():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                namespace=NAMESPACE,
            )
    except (OSError, RuntimeError, ValueError, AuthenticationError) as error:
        reason = str(error).splitlines()[0]
        raise UnavailableError(f"cannot join the Ray cluster at {address}: {reason}") from error
    if serving:
        _start_serve()


@contextmanager
def joined_cluster(home: Home, address: str) -> Iterator[None]:
    """Connected to a running cluster with Serve on it while the context is open.

    A process of the cluster's own is connected already, and stays so.

    Raises:
        UnavailableError: there is none, or it does not take the token.
    """
    if ray.is_initialized():
        yield
        return
    join_cluster(home, address)
    try:
        yield
    finally:
        leave_cluster()


def _reach(address: str) -> None:
    """Raises OSError when nobody listens; Ray would wait for its control store for ever."""
    host, _, port = address.rpartition(":")
    if host and "://" not in address and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()


def _start_serve() -> None:
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # Callers dial replicas, so no proxy stands between (ADR 0001).
    serve.start(proxy_location=ProxyLocation.Disabled)


def metrics_addresses() -> list[str]:
    """Where Prometheus asks every node of the cluster that this process has joined."""
    return [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"] and node["MetricsExportPort"]
    ]


def leave_cluster() -> None:
    """Disconnects; a cluster of this process' own ends."""
    ray.shutdown()
