"""The contract's own rules, enforced once, where requests enter."""

from __future__ import annotations

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
        path = ".".join(element.field_name for element in elements)
        raise InvalidRequestError(path or "request", proto.message)
