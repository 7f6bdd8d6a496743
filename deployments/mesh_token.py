"""Replicas of a secure mesh take calls only from inside it.

Who knows the mesh's token is inside: the edge and our own clients add it to every call. It lies in
the home folder, readable by its owner alone, from the mesh's start to its end; or, where no process
holds the whole mesh, in the file that ``RECMESH_MESH_TOKEN_FILE`` names on every node: one a line,
the first is shown, all are believed, so that one can be replaced while both are in use. A mesh that
is not secure has none.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health

from recmesh.deployments.caller import MESH_TOKEN_KEY, said
from recmesh.deployments.grpc_errors import abort
from recmesh.storage.errors import ConfigurationError, UnauthenticatedError
from recmesh.storage.home import Home

HEALTH_PATH = f"/{health.SERVICE_NAME}/"
TOKEN_BYTES = 32
TOKEN = re.compile(r"[!-~]{32,}")
"""What somebody cannot guess, and a header can hold."""
FILE_VARIABLE = "RECMESH_MESH_TOKEN_FILE"

Metadata = tuple[tuple[str, str], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def shown_token_file(home: Home) -> Path:
    """Holds the one token that the edge beside this mesh shows, while it runs and is secure."""
    return home.run / "mesh-token"


@contextmanager
def kept_mesh_token(home: Home, *, secure: bool) -> Iterator[None]:
    """Keeps the mesh's token while the context is open, made anew unless a file is named.

    One that a killed mesh left behind is removed.

    Raises:
        ConfigurationError: a file is named and cannot be used, or the edge is not secure.
    """
    file = shown_token_file(home)
    file.unlink(missing_ok=True)
    named = named_tokens()
    if not secure:
        if named:
            raise ConfigurationError(
                f"{FILE_VARIABLE} is set, so replicas would refuse an edge that is not secure; "
                "unset it, or start with: recmesh up --secure"
            )
        yield
        return
    file.touch(mode=0o600)
    file.write_text(named[0] if named else secrets.token_hex(TOKEN_BYTES))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def mesh_token(home: Home) -> str:
    """The tokens of the mesh that runs in a home folder, a space between; empty: it has none.

    Raises:
        ConfigurationError: the file that is named cannot be used.
    """
    if named := named_tokens():
        return " ".join(named)
    try:
        return shown_token_file(home).read_text()
    except FileNotFoundError:
        return ""


def named_tokens() -> tuple[str, ...]:
    """What the file says that is named in the environment; empty where none is.

    Raises:
        ConfigurationError: it cannot be read, is empty, or a token in it is too short.
    """
    name = os.environ.get(FILE_VARIABLE, "")
    if not name:
        return ()
    try:
        tokens = tuple(Path(name).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{FILE_VARIABLE}: cannot read {name}: {reason}") from error
    if not tokens or not all(TOKEN.fullmatch(token) for token in tokens):
        raise ConfigurationError(
            f"{FILE_VARIABLE}: {name} must hold tokens, one a line, each of 32 characters or more "
            "of ASCII; make one with: openssl rand -hex 32"
        )
    return tokens


def from_inside(token: str) -> Metadata:
    """Metadata of a call to a replica: the first token; nothing where there is none."""
    return ((MESH_TOKEN_KEY, token.split()[0]),) if token else ()


class InsideOnly(grpc.aio.ServerInterceptor):
    """Refuses calls without a token; health stays open, for Envoy and Kubernetes ask it."""

    def __init__(self, tokens: str) -> None:
        """``tokens`` have spaces between; all are believed."""
        self._tokens = [token.encode() for token in tokens.split()]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Called by gRPC for every call."""
        method = handler_call_details.method
        if not method.startswith(HEALTH_PATH) and not self._is_inside(handler_call_details):
            return _REFUSAL
        return await continuation(handler_call_details)

    def _is_inside(self, details: grpc.HandlerCallDetails) -> bool:
        token = said(details.invocation_metadata, MESH_TOKEN_KEY)
        shown = token if isinstance(token, bytes) else token.encode()
        return any(hmac.compare_digest(shown, token) for token in self._tokens)


def inside_only(token: str) -> tuple[InsideOnly, ...]:
    """What a server is made with; nothing where there is no token."""
    return (InsideOnly(token),) if token else ()


async def _refuse(
    requests: AsyncIterator[bytes],  # noqa: ARG001 - gRPC's signature
    context: grpc.aio.ServicerContext[Any, Any],
) -> AsyncIterator[bytes]:
    await abort(
        context,
        UnauthenticatedError(
            "this replica takes calls only from inside its mesh; call the mesh's edge"
        ),
    )
    yield b""


# As a stream, because that refuses before the request's message has come.
_REFUSAL: Handler = grpc.stream_stream_rpc_method_handler(_refuse)
