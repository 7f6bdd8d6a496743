"""Scores of the whole catalogue for the users asked about a moment ago.

For one page a model is asked twice or three times about the same user at the same second: what
it proposes, and what it thinks of the others' proposals. Most of that work is the same.
"""

from __future__ import annotations

import hashlib
import marshal
import threading
from collections import OrderedDict
from collections.abc import Callable

from recmesh.models.model import Context, Float32

MAX_BYTES = 32 * 1024 * 1024
SIMPLE = 2
"""The newest version of marshal that writes equal values equally."""


def _key(context: Context) -> bytes:
    user = context.user
    content = (
        user.user_id,
        tuple(user.history_item_ids),
        tuple(user.history_event_types),
        tuple(user.history_times_unix_s),
        tuple(user.specialties),
        *(user.country, user.language),
        *(context.surface, context.now_unix_s, context.query),
    )
    # A digest, so that nothing of a user stays here that could be told or would have to be erased.
    return hashlib.blake2b(marshal.dumps(content, SIMPLE), digest_size=16).digest()


class RecentScores:
    """Keeps what was computed last, by everything that was known of the user. Thread-safe.

    Another click, another second or another surface is another key: nothing here is ever out of
    date. One model's, so that a new version starts with none.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """0 keeps nothing."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, Float32 | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, context: Context, compute: Callable[[Context], Float32 | None]) -> Float32 | None:
        """``compute(context)``, now or a moment ago; read-only, for others have it, too."""
        key = _key(context)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        scores = compute(context)
        size = _size(key, scores)
        if scores is not None:
            scores.setflags(write=False)
        if size > self._max_bytes:
            return scores
        with self._lock:
            if key not in self._kept:
                self._kept[key] = scores
                self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= _size(*self._kept.popitem(last=False))
        return scores


def _size(key: bytes, scores: Float32 | None) -> int:
    return len(key) + (0 if scores is None else scores.nbytes)
