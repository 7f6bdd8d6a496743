"""How replicas log: lines that say which request they belong to, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from opentelemetry import trace

from recmesh.deployments.private_errors import without_messages
from recmesh.storage.telemetry.current_call import CURRENT_CALL

Event = MutableMapping[str, Any]
LogFormat = Literal["text", "json"]


def with_request(_: Any, __: str, event: Event) -> Event:
    """A structlog processor: adds the request and the trace that are worked on, where any are."""
    call = CURRENT_CALL.get()
    if call is not None:
        if call.request_id:
            event.setdefault("request_id", call.request_id)
        if call.trace_id:
            event["trace_id"] = call.trace_id
            event["span_id"] = f"{trace.get_current_span().get_span_context().span_id:016x}"
    return event


def log_as(form: LogFormat, application: str) -> None:
    """Sets up the log of a replica of ``application``: from INFO up, to standard output.

    What commands print is set up where they begin.
    """

    def from_application(_: Any, __: str, event: Event) -> Event:
        event["application"] = application
        return event

    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            from_application,
            with_request,
            without_messages,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stdout),
    )
