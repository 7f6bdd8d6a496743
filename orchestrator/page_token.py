"""The token that asks for the next page: where to go on, and with which randomness.

Stateless: the pages of one request are one slate, cut. The token carries the request id
that seeded it and the slots already given.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from recmesh.storage.errors import InvalidRequestError

MAX_SLOTS = 200
"""Slots over all pages of one request."""


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a request's next page starts."""

    request_id: str
    offset: int

    def encode(self) -> str:
        """The token as callers see it."""
        text = json.dumps([self.request_id, self.offset], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> PageToken:
        """Reads a caller's token.

        Raises:
            InvalidRequestError: it is not one of ours.
        """
        try:
            padded = token + "=" * (-len(token) % 4)
            request_id, offset = json.loads(base64.urlsafe_b64decode(padded))
            if not (isinstance(request_id, str) and isinstance(offset, int)):
                raise ValueError("wrong types")
            if not 0 < offset < MAX_SLOTS:
                raise ValueError("offset out of range")
        except (ValueError, TypeError) as error:
            raise InvalidRequestError("page_token", "not a token of an earlier response") from error
        return cls(request_id, offset)
