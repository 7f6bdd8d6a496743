"""Addresses as the edge takes them: an IP and a port."""

from __future__ import annotations

import ipaddress

from recmesh.storage.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where callers enter unless the configuration says otherwise."""


def split_address(address: str) -> tuple[str, int]:
    """IP and port of ``ip:port``, ``[ipv6]:port`` or ``localhost:port``.

    Raises:
        ConfigurationError: it is none of these; Envoy takes no host names here.
    """
    host, _, port = address.rpartition(":")
    host = LOOPBACK if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError as error:
        raise ConfigurationError(f"{address!r} is not an address; write ip:port") from error
    if not 0 <= number < 65536:
        raise ConfigurationError(f"{address!r}: the port must be in [0, 65535]")
    return host, number


def is_loopback(address: str) -> bool:
    """Whether nobody on another machine reaches an address. Raises as :func:`split_address`."""
    return ipaddress.ip_address(split_address(address)[0]).is_loopback
