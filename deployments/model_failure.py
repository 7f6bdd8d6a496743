"""What a failed call to a model means to whoever made it."""

from __future__ import annotations

import grpc
import grpc.aio

from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.grpc_errors import DETAILS_KEY
from recmesh.storage.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RecMeshError,
    UnavailableError,
    UnsupportedError,
    VersionError,
)

ERRORS: dict[grpc.StatusCode, type[RecMeshError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: VersionError,
}


def failure_of(
    error: grpc.aio.AioRpcError, model: str, address: str, tls: ClientTls | None
) -> RecMeshError:
    """The caller's own error for what one address of a model answered."""
    code = error.code()
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequestError("request", f"refused by model {model}")
    # A model's own errors carry an ErrorInfo; INTERNAL without one is a connection
    # that was cut while the model worked, which another replica can make good.
    own = DETAILS_KEY in dict(error.trailing_metadata() or ())
    if code == grpc.StatusCode.INTERNAL and not own:
        return UnavailableError(f"model {model}: connection lost to {address}")
    if code == grpc.StatusCode.UNAVAILABLE:
        why = unreachable(error.details() or "", address, tls)
        return UnavailableError(f"model {model}: {address} {why}")
    return ERRORS.get(code, RecMeshError)(f"model {model} answered {code.name}")


def unreachable(details: str, address: str, tls: ClientTls | None) -> str:
    """Why an address cannot be reached, for people, from gRPC's own account of it."""
    if "backend unhealthy" in details:
        return "says that it does not serve (grpc.health.v1)"
    if "Connection refused" in details:
        return "refuses connections: nobody listens there"
    if "Domain name not found" in details:
        return "has a host name that nobody knows"
    if "Hostname Verification" in details:
        wanted = (tls.server_name if tls else "") or address.rpartition(":")[0]
        return (
            f"has a certificate that is not for {wanted}: name in tls.server_name one that it "
            f"is for"
        )
    if "CERTIFICATE_VERIFY_FAILED" in details:
        reason = details.partition("CERTIFICATE_VERIFY_FAILED: ")[2].partition(":")[0]
        whom = tls.authority if tls and tls.authority else "an authority that gRPC comes with"
        return (
            f"has a certificate that is not to be believed by {whom} ({reason}): name in "
            f"tls.authority who signed it"
        )
    if "WRONG_VERSION_NUMBER" in details:
        return "speaks no TLS: take the table tls away"
    if "Socket closed" in details:
        if tls is None:
            return "closed the connection; if it always does, it wants TLS: add a table tls"
        return (
            "closed the connection; if it always does, it does not believe tls.certificate, or "
            "wants one"
        )
    return f"cannot be reached ({details.rpartition('last error: ')[2] or 'no reason given'})"
