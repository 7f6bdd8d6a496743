"""Replicas of a secure mesh take calls only from inside it.

Who knows the mesh's token is inside: it lies in the home folder, readable by its owner alone, from
the mesh's start to its end. The edge and our own clients add it to every call. A mesh that is not
secure has none.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health

from recmesh.deployments.caller import MESH_TOKEN_KEY, said
from recmesh.deployments.grpc_errors import abort
from recmesh.storage.errors import UnauthenticatedError
from recmesh.storage.home import Home

HEALTH_PATH = f"/{health.SERVICE_NAME}/"
TOKEN_BYTES = 32

Metadata = tuple[tuple[str, str], ...]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@contextmanager
def kept_mesh_token(home: Home, *, secure: bool) -> Iterator[str]:
    """Makes this mesh's token and keeps it while the context is open; empty where not secure.

    One that a killed mesh left behind is removed.
    """
    file = home.run / "mesh-token"
    file.unlink(missing_ok=True)
    if not secure:
        yield ""
        return
    token = secrets.token_hex(TOKEN_BYTES)
    file.touch(mode=0o600)
    file.write_text(token)
    try:
        yield token
    finally:
        file.unlink(missing_ok=True)


def mesh_token(home: Home) -> str:
    """The token of the mesh that runs in a home folder; empty: it has none."""
    try:
        return (home.run / "mesh-token").read_text()
    except FileNotFoundError:
        return ""


def from_inside(token: str) -> Metadata:
    """Metadata of a call to a replica; nothing where there is no token."""
    return ((MESH_TOKEN_KEY, token),) if token else ()


class InsideOnly(grpc.aio.ServerInterceptor):
    """Refuses calls without the token; health stays open, for Envoy and Kubernetes ask it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

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
        return bool(shown) and hmac.compare_digest(shown, self._token)


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
