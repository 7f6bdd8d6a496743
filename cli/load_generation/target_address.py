"""Whom a load generator may be turned on."""

from __future__ import annotations

import ipaddress
import re

from recmesh.storage.errors import ConfigurationError

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):\d{1,5}")


def checked_target(address: str, remote_allowed: bool) -> str:
    """The address, if it is on this machine's loopback or remote ones are allowed.

    A name is not looked up, and so remote, but for localhost.

    Raises:
        ConfigurationError: it is remote, or not ``host:port``.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigurationError(
            f"address {address!r} is not HOST:PORT; for example 127.0.0.1:50051 or [::1]:50051"
        )
    host = found["v6"] or found["host"]
    if not remote_allowed and not _is_loopback(host):
        raise ConfigurationError(
            f"{host} is not this machine: an open loop does not slow down when a server "
            "does, and what it is sent is recorded and counts for campaigns. If its owner agrees: "
            "--allow-remote"
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
