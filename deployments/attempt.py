"""One call to a model at one address, and what it says of that address."""

from __future__ import annotations

import time
from math import inf
from typing import Any

import grpc.aio
import structlog
from google.protobuf.message import Message

from recmesh.deployments.address_pool import Replica
from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.model_failure import failure_of
from recmesh.storage.errors import DeadlineError, RecMeshError, UnavailableError
from recmesh.storage.telemetry.spans import handed_on, recorded_span

log = structlog.get_logger(__name__)

PATIENCE_S = 0.1
"""A replica that leaves a call unanswered for this long is passed over for a while."""


class Attempt:
    """Under way from the moment it is made."""

    def __init__(
        self,
        model: str,
        tls: ClientTls | None,
        replica: Replica,
        method: str,
        request: Message,
        timeout_s: float,
        usual_s: float | None,
    ) -> None:
        """``model`` and ``tls`` are for the words of an error.

        Nearly all answers take at most ``usual_s``; None: that is not known.
        """
        self.replica = replica
        self.is_overtaken = False
        self._model = model
        self._tls = tls
        self._timeout_s = timeout_s
        self._late_s = inf if usual_s is None else time.monotonic() + usual_s
        self._call = replica.calls[method](
            request, timeout=timeout_s, metadata=(*replica.metadata, *handed_on())
        )
        span = recorded_span()
        if span is not None:
            # More than one where a call is hedged or made again.
            span.add_event("asked", {"server.address": replica.address})

    async def answer(self) -> Any:
        """The answer; to be awaited once.

        Raises:
            RecMeshError: as a ModelClient does.
            CancelledError: it was overtaken.
        """
        self.replica.outstanding += 1
        try:
            answer = await self._call
        except grpc.aio.AioRpcError as error:
            raise self._judged(error) from error
        finally:
            self.replica.outstanding -= 1
        if time.monotonic() <= self._late_s:
            self.replica.outlier.succeeded()
        return answer

    def overtake(self) -> None:
        """Ends it: another replica, asked later, has answered."""
        self.is_overtaken = True
        self.replica.outlier.erred(time.monotonic())
        self._call.cancel()

    def _judged(self, error: grpc.aio.AioRpcError) -> RecMeshError:
        failure = failure_of(error, self._model, self.replica.address, self._tls)
        outlier = self.replica.outlier
        hangs = isinstance(failure, DeadlineError) and self._timeout_s >= PATIENCE_S
        if hangs or isinstance(failure, UnavailableError):
            if not outlier.is_known:
                log.warning("replica_left_alone", model=self._model, reason=str(failure))
            # Else one that hangs would be asked again and again while others idle.
            outlier.vanished(time.monotonic())
        elif type(failure) is RecMeshError:
            outlier.erred(time.monotonic())
        return failure
