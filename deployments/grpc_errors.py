"""How errors leave the process: a canonical code, a message for people, an ErrorInfo.

Errors of our own tree go out as they are. Anything else is a defect: it is logged with
its traceback here and leaves as INTERNAL without its text.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from recmesh.storage.errors import InvalidRequestError, RecMeshError

log = structlog.get_logger(__name__)

DOMAIN = "recmesh.v1"
DETAILS_KEY = "grpc-status-details-bin"


def _status(error: RecMeshError) -> tuple[grpc.StatusCode, status_pb2.Status]:
    code: grpc.StatusCode = getattr(grpc.StatusCode, error.code)
    info = error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN)
    details = [info]
    if isinstance(error, InvalidRequestError):
        info.metadata["field"] = error.field
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field=error.field, description=str(error))
        details.append(bad)
    status = status_pb2.Status(code=code.value[0], message=str(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return code, status


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """Ends the call with the error's code. Never returns."""
    if not isinstance(error, RecMeshError):
        log.error("defect", exc_info=error)
        error = RecMeshError("internal error")
    code, status = _status(error)
    metadata = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(code, str(error), trailing_metadata=metadata)
