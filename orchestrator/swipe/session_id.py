"""The id of a session: signed, so that nobody resumes a session that is not theirs.

Not the session's state: that is in the event log, which every orchestrator follows (see
:mod:`recmesh.orchestrator.swipe.session`). Random bytes and the start, signed with HMAC-SHA256
(RFC 2104), cut to 128 bits, together with the user: 42 characters that say nothing of anybody.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import struct
from collections.abc import Sequence

from recmesh.storage.errors import InvalidRequestError

SESSION_S = 24 * 3600
"""How long a session may be resumed: as long as orchestrators remember what was shown."""
FIELD = "start.session_id"
MAC_BYTES = 16
RANDOM_BYTES = 11
"""With the start, 15 bytes: no padding in base64."""


class SessionIds:
    """Issues ids of sessions and verifies what comes back."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """``keys`` all verify; the first signs."""
        self._keys = tuple(keys)

    def issue(self, user_id: str, now_unix_s: int) -> str:
        """The id of a new session of the user's."""
        content = struct.pack(">I", now_unix_s) + secrets.token_bytes(RANDOM_BYTES)
        return _encoded(_mac(self._keys[0], content, user_id) + content)

    def key(self, session_id: str, user_id: str, now_unix_s: int) -> str:
        """What names the session in request ids and event ids: 20 characters.

        Raises:
            InvalidRequestError: not issued here, of another user, or more than 24 hours old.
        """
        try:
            signed = base64.urlsafe_b64decode(session_id + "=" * (-len(session_id) % 4))
        except (binascii.Error, ValueError):
            signed = b""
        mac, content = signed[:MAC_BYTES], signed[MAC_BYTES:]
        issued = any(hmac.compare_digest(mac, _mac(key, content, user_id)) for key in self._keys)
        # Decoding passes over foreign characters and spare bits: only one spelling is the id.
        if not issued or _encoded(signed) != session_id:
            raise InvalidRequestError(FIELD, "not the id of a session of this user")
        (started_unix_s,) = struct.unpack_from(">I", content)
        if now_unix_s - started_unix_s > SESSION_S:
            raise InvalidRequestError(
                FIELD, f"began more than {SESSION_S // 3600} hours ago; start a new session"
            )
        return base64.urlsafe_b64encode(content).decode()


def _mac(key: bytes, content: bytes, user_id: str) -> bytes:
    return hmac.digest(key, content + user_id.encode(), "sha256")[:MAC_BYTES]


def _encoded(signed: bytes) -> str:
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")
