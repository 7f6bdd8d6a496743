"""How an external model is spoken to in secret: whom to believe, and who we are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import grpc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recmesh.deployments.tls_files import read_authority, read_pair

PemFile = Annotated[str, Field(pattern=r"^$|^/")]
"""An absolute path: it is read on the machine of every orchestrator. Empty: none."""


class ClientTls(BaseModel):
    """The table ``tls`` of a model at addresses elsewhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    authority: PemFile = ""
    """Certificates of who may sign the server's. Empty: the authorities that gRPC comes with."""
    certificate: PemFile = ""
    """Ours, for a server that wants to know its callers (mTLS)."""
    key: PemFile = ""
    server_name: str = ""
    """Name that the server's certificate must hold. Empty: the host of the address."""

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together: give both, or neither")
        return self

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is made with.

        Raises:
            ConfigurationError: a file cannot be read, or is not what it should be.
        """
        authority = read_authority(Path(self.authority)) if self.authority else None
        chain, key = None, None
        if self.certificate:
            chain, key = read_pair(Path(self.certificate), Path(self.key))
        return grpc.ssl_channel_credentials(authority, key, chain)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Options of a channel."""
        if not self.server_name:
            return ()
        return (("grpc.ssl_target_name_override", self.server_name),)
