"""Users who were erased, known by salted hashes of their ids and by nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HASH_BYTES = 16

_WORDS = re.compile(r'[^\s",;|{}\[\]]+')

USER_COLUMNS: dict[str, tuple[str, ...]] = {
    "users": ("user_id",),
    # The item of a follow is a user.
    "events": ("user_id", "item_id"),
    "edges": ("source_user_id", "target_user_id"),
    "quarantined_events": ("user_id", "item_id"),
    "campaign_slots": ("user_id", "item_id"),
    "decisions": ("user_id",),
}
"""Columns that hold user ids: of the interchange tables, and of the writer's own."""


def id_hash(salt: bytes, user_id: str) -> bytes:
    """Keyed BLAKE2b of an id. Without the salt, ids cannot be tried one by one."""
    return hashlib.blake2b(
        user_id.encode("utf-8", "surrogatepass"), key=salt, digest_size=HASH_BYTES
    ).digest()


def texts_of(value: Any) -> Iterator[str]:
    """Every text of parsed JSON, and every word of it."""
    if isinstance(value, str):
        yield value
        yield from _WORDS.findall(value)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_of(part)


@dataclass(frozen=True)
class ErasedUsers:
    """A set of erased users."""

    salt: bytes = b""
    hashes: frozenset[bytes] = frozenset()

    def __contains__(self, user_id: str) -> bool:
        return bool(self.hashes) and id_hash(self.salt, user_id) in self.hashes

    def among(self, ids: Iterable[str]) -> list[str]:
        """Those of the ids that were erased."""
        return [user_id for user_id in ids if user_id in self]

    def named_in(self, value: Any) -> bool:
        """Whether a text or a word of parsed JSON is an erased user's id."""
        return bool(self.hashes) and any(text in self for text in texts_of(value))

    def without(self, name: str, table: pa.Table) -> pa.Table:
        """The interchange table ``name`` without rows that name an erased user."""
        if not self.hashes:
            return table
        gone: npt.NDArray[np.bool_] = np.zeros(table.num_rows, bool)
        for column in USER_COLUMNS.get(name, ()):
            ids = pa.array(self.among(pc.unique(table[column]).to_pylist()), pa.string())
            gone |= pc.is_in(table[column], value_set=ids).to_numpy(zero_copy_only=False)
        return table.filter(pa.array(~gone)) if gone.any() else table
