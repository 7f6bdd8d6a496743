"""Certificates and keys in files, read and held against each other before anybody listens or dials.

gRPC takes any bytes, and fails at the first handshake with an error of its library's inside.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from recmesh.storage.errors import ConfigurationError


def read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate chain and its private key, as PEM.

    Raises:
        ConfigurationError: one cannot be read, or they do not belong together.
    """
    read = _read(certificate, "certificate"), _read(key, "private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{certificate} and {key} are not a certificate and its key, as PEM without a "
            f"password: {_reason(error)}"
        ) from error
    return read


def read_authority(file: Path) -> bytes:
    """Certificates of those whose signature is believed, as PEM.

    Raises:
        ConfigurationError: the file cannot be read, or holds none.
    """
    read = _read(file, "certificate authority")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"{file} holds no certificate, as PEM: {_reason(error)}"
        ) from error
    return read


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the {what} {file}: {error.strerror}") from error


def _reason(error: Exception) -> str:
    """The library's word, without its function and place."""
    return str(getattr(error, "reason", None) or "it is no PEM").lower().replace("_", " ")
