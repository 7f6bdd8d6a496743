"""The contract's own rules, enforced once, where requests enter."""

from __future__ import annotations

from typing import Any

import protovalidate
from google.protobuf.message import Message

from recmesh.storage.errors import InvalidRequestError

_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Checks a message against the protovalidate rules of the contract.

    Raises:
        InvalidRequestError: names the first field at fault and the rule it breaks. The
            value is not repeated: it may be personal.
    """
    violations = _validator.collect_violations(message, fail_fast=True)
    if violations:
        proto = violations[0].proto
        elements = proto.field.elements if proto.field is not None else ()
        path = ".".join(map(_named, elements))
        raise InvalidRequestError(path or "request", proto.message)


def _named(element: Any) -> str:
    # Keys of maps are the caller's words, which may be personal; places in lists are not.
    place = element.subscript
    in_list = place is not None and place.field == "index"
    return f"{element.field_name}[{place.value}]" if in_list else str(element.field_name)
