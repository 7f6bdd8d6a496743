"""The one way to open a channel to an edge, plaintext or secure, here or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from recmesh.deployments.development_credentials import DevelopmentCredentials
from recmesh.deployments.ip_address import DEFAULT_ADDRESS
from recmesh.deployments.mesh_record import MeshRecord, running_mesh
from recmesh.deployments.tls_files import read_authority, read_pair
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

DEFAULT_CALLER = "operator"


class CallerSettings(BaseSettings):
    """Credentials for an edge, from the variables ``RECMESH_CALLER_…``.

    Where none is set, a secure mesh of the home folder is called with its development
    certificates, as the caller ``name``.
    """

    model_config = SettingsConfigDict(frozen=True, env_prefix="RECMESH_CALLER_")

    name: str = DEFAULT_CALLER
    authority: Path | None = None
    """Who signed the edge's certificate. Without it the edge is taken as plaintext."""
    certificate: Path | None = None
    key: Path | None = None
    token: str = Field(default="", repr=False)

    @classmethod
    def load(cls, **said_here: Path | str | None) -> CallerSettings:
        """Reads the variables, but for what is said here and not empty.

        Raises:
            ConfigurationError: they do not go together.
        """
        try:
            said = cls(**{key: value for key, value in said_here.items() if value})  # type: ignore[arg-type] # validated
        except ValidationError as error:
            raise ConfigurationError(f"a variable RECMESH_CALLER_… is wrong: {error}") from error
        if (said.certificate is None) != (said.key is None):
            raise ConfigurationError(
                "RECMESH_CALLER_CERTIFICATE and RECMESH_CALLER_KEY go together: give both, or none"
            )
        if said.authority is None and (said.certificate is not None or said.token):
            raise ConfigurationError(
                "credentials are only shown to an edge that proves who it is: name in "
                "RECMESH_CALLER_AUTHORITY who signed its certificate"
            )
        return said


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a mesh is called, and as whom."""

    address: str
    credentials: grpc.ChannelCredentials | None
    """None: plaintext."""

    def channel(self) -> grpc.Channel:
        """For threads."""
        if self.credentials is None:
            return grpc.insecure_channel(self.address)
        return grpc.secure_channel(self.address, self.credentials)

    def aio_channel(self, options: Sequence[tuple[str, int | str]] = ()) -> grpc.aio.Channel:
        """For the running event loop."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address, options)
        return grpc.aio.secure_channel(self.address, self.credentials, options)


def edge_of(home: Home, address: str = "", said: CallerSettings | None = None) -> Edge:
    """The edge to call.

    Args:
        home: whose running mesh is meant, and where its credentials are.
        address: another edge; empty: the running mesh's.
        said: credentials; None: as the environment says.

    Raises:
        ConfigurationError: credentials are missing or wrong; says the fix.
        NotFoundError: the home folder has none for the caller.
    """
    running = running_mesh(home)
    said = said or CallerSettings.load()
    if said.authority is not None:
        here = running.address if running else DEFAULT_ADDRESS
        return Edge(address or here, _given(said, said.authority))
    if running is not None and _same(address or running.address, running.address):
        return edge_of_mesh(home, running, said.name)
    return Edge(address or DEFAULT_ADDRESS, None)


def _same(one: str, other: str) -> bool:
    return one.replace("localhost:", "127.0.0.1:") == other


def edge_of_mesh(home: Home, running: MeshRecord, caller: str = DEFAULT_CALLER) -> Edge:
    """A mesh of the home folder, as one of its callers. Raises as :func:`edge_of` does."""
    if not running.secure:
        return Edge(running.address, None)
    made = DevelopmentCredentials(home.credentials)
    if not made.authority.is_file():
        raise ConfigurationError(
            "this mesh has no development credentials; name yours in RECMESH_CALLER_AUTHORITY, "
            "and in RECMESH_CALLER_TOKEN or RECMESH_CALLER_CERTIFICATE and RECMESH_CALLER_KEY"
        )
    pair = made.caller(caller)
    chain, key = read_pair(pair.certificate, pair.key)
    return Edge(
        running.address, grpc.ssl_channel_credentials(read_authority(made.authority), key, chain)
    )


def _given(said: CallerSettings, authority: Path) -> grpc.ChannelCredentials:
    chain, key = None, None
    if said.certificate is not None and said.key is not None:
        chain, key = read_pair(said.certificate, said.key)
    secret = grpc.ssl_channel_credentials(read_authority(authority), key, chain)
    if not said.token:
        return secret
    return grpc.composite_channel_credentials(
        secret, grpc.access_token_call_credentials(said.token)
    )
