"""Offers services of the contract on a server.

A method is a plain coroutine from message and remaining seconds to message, or a generator from
a stream's requests to its responses. Everything
that is the same for all of them happens here once: parsing (so that a malformed message
is INVALID_ARGUMENT, not UNKNOWN), the contract's validation rules, the caller's deadline,
and errors. A method of the contract that is not given answers UNIMPLEMENTED by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from recmesh.deployments.call_meter import CallMeter
from recmesh.deployments.call_watch import CallWatch
from recmesh.deployments.caller import GIVEN_KEY, PRIORITY_KEY, said, set_current_caller
from recmesh.deployments.grpc_errors import abort
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.validation import validate
from recmesh.orchestrator.overload.priority import Priority
from recmesh.orchestrator.overload.priority_gate import PriorityGate
from recmesh.storage.errors import InvalidRequestError, UnsupportedError
from recmesh.storage.telemetry.current_call import identify
from recmesh.storage.telemetry.spans import is_tracing

Method = Callable[[Any, float], Awaitable[Message]]
"""From a request and the seconds its caller still waits (infinite: for ever) to a response."""

StreamMethod = Callable[[AsyncIterator[Any]], AsyncGenerator[Message, None]]
"""From the requests of a stream, as they come, to its responses, in their order."""

Context = grpc.aio.ServicerContext[bytes, bytes]


UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
MOST_TIME_S, LEAST_TIME_S = 1.0, 0.01
"""What a call's time counts as, where it is more or less."""

UNMETERED = ("Describe", "ReadChanges", "ReadEvents", "ReadPacing", "ReadTrials", "Swipe")
"""Asked all the time by everybody, or open and idle most of the time: counting them would hide the
calls that work. A session's cards are metered one by one where they are dealt."""


def _parsed(raw: bytes, request_type: type[Message], checked: bool) -> Message:
    try:
        request = request_type.FromString(raw)
    except DecodeError as error:
        raise InvalidRequestError(
            "request", "not a message of the contract, or text that is not UTF-8"
        ) from error
    if checked:
        validate(request)
    return request


def _unary(method: Method, request_type: type[Message], checked: bool, meter: CallMeter) -> Any:
    named = "request_id" in request_type.DESCRIPTOR.fields_by_name

    async def handle(raw: bytes, context: Context) -> bytes:
        started_s = meter.begin()
        set_current_caller(context.invocation_metadata())
        try:
            request: Any = _parsed(raw, request_type, checked)
            if named and request.request_id:
                identify(request.request_id)
            response = await method(request, _remaining_s(context))
            return response.SerializeToString()
        finally:
            meter.end(started_s)

    return handle


def _answered(handle: Any, watch: CallWatch | None) -> Any:
    """Whatever goes wrong leaves as a gRPC code, and is counted; a call without a watch is not."""

    async def answer(raw: bytes, context: Context) -> bytes:
        call = watch.begin(_metadata(context)) if watch else None
        try:
            answer: bytes = await handle(raw, context)
            return answer
        except Exception as error:  # noqa: BLE001 - see above
            if call:
                call.failed(error)
            await abort(context, error)
        except asyncio.CancelledError as error:
            if call:
                call.failed(error)
            raise
        finally:
            if call:
                call.end()

    return answer


def _metadata(context: Context) -> Any:
    return context.invocation_metadata() or () if is_tracing() else ()


def _gated(handle: Any, gate: PriorityGate) -> Any:
    """Calls take their turn before anything is done for them."""

    async def take_turn(raw: bytes, context: Context) -> bytes:
        given_s = _given_s(context)
        await gate.enter(_priority(context), _remaining_s(context))
        begun_s = time.monotonic()
        try:
            answer: bytes = await handle(raw, context)
            return answer
        finally:
            # Answered or not: what was cancelled for its deadline took its time, too.
            gate.leave((time.monotonic() - begun_s) / given_s)

    return take_turn


def _given_s(context: Context) -> float:
    """The whole of a call's time, when it reached the edge: it may have waited since."""
    text = str(said(context.invocation_metadata(), GIVEN_KEY))
    try:
        given_s = int(text[:-1]) * UNITS_S[text[-1:]]
    except (ValueError, KeyError):
        given_s = _remaining_s(context)
    return max(min(given_s, MOST_TIME_S), LEAST_TIME_S)


def _remaining_s(context: Context) -> float:
    remaining_s = context.time_remaining()
    return math.inf if remaining_s is None else remaining_s


def _priority(context: Context) -> Priority:
    return Priority.named(str(said(context.invocation_metadata(), PRIORITY_KEY)))


def _stream(
    method: StreamMethod,
    request_type: type[Message],
    checked: bool,
    meter: CallMeter,
    watch: CallWatch,
) -> Any:
    async def handle(raw: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async def requests() -> AsyncIterator[Message]:
            async for part in raw:
                yield _parsed(part, request_type, checked)

        call = watch.begin()
        started_s = meter.begin()
        set_current_caller(context.invocation_metadata())
        try:
            async with contextlib.aclosing(method(requests())) as responses:
                async for response in responses:
                    yield response.SerializeToString()
        except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as a gRPC code
            call.failed(error)
            await abort(context, error)
        except asyncio.CancelledError as error:
            call.failed(error)
            raise
        finally:
            meter.end(started_s)
            call.end()

    return handle


def _missing(descriptor: MethodDescriptor) -> Any:
    async def refuse(_: Any, context: Context) -> bytes:
        name = f"{descriptor.containing_service.name}.{descriptor.name}"
        await abort(context, UnsupportedError(f"{name} is not available in this release"))

    return refuse


def add_service(
    server: GrpcServer,
    service: ServiceDescriptor,
    methods: Mapping[str, Method],
    *,
    checked: bool,
    streams: Mapping[str, StreamMethod] | None = None,
    gate: PriorityGate | None = None,
) -> None:
    """Registers a service.

    Args:
        server: not started yet.
        service: of the contract.
        methods: coroutines of the unary methods on offer, by method name.
        checked: whether requests are held against the contract's validation rules; true
            where requests enter, false between parts of the mesh.
        streams: generators of the methods on offer whose callers send a stream.
        gate: at which unary calls take their turn; None: all are worked on at once.
    """
    handlers: dict[str, Any] = {}
    for method in service.methods:
        offered = methods.get(method.name)
        meter = CallMeter() if method.name in UNMETERED else server.meter
        if offered is not None:
            handle = _unary(offered, GetMessageClass(method.input_type), checked, meter)
            watch = None
            if method.name not in UNMETERED:
                watch = CallWatch(service.full_name, method.name, begins_traces=checked)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                _answered(handle if gate is None else _gated(handle, gate), watch)
            )
        elif method.name in (streams or {}):
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(
                _stream(
                    (streams or {})[method.name],
                    GetMessageClass(method.input_type),
                    checked,
                    meter,
                    # Who opens it, and how long it stays open, is no trace of a request.
                    CallWatch(service.full_name, method.name, begins_traces=False, timed=False),
                )
            )
        elif method.client_streaming:
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(_missing(method))
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_missing(method))
    server.server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service.full_name, handlers),)
    )
