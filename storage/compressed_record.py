"""Decision records as they are stored: compressed, with their size in front."""

from __future__ import annotations

import pyarrow as pa
from google.protobuf.message import DecodeError

from recmesh.storage.errors import DataError
from recmesh.v1.decision_record_pb2 import DecisionRecord

_CODEC = pa.Codec("zstd", compression_level=1)
_SIZE_BYTES = 4
LARGEST_BYTES = 64 * 1024 * 1024
"""Of a record, decompressed: what claims more is damaged."""


def compressed(record: DecisionRecord) -> bytes:
    """The record with Zstandard (RFC 8878)."""
    raw = record.SerializeToString()
    # Arrow wants to know the size when it decompresses.
    size = len(raw).to_bytes(_SIZE_BYTES, "little")
    return size + bytes(_CODEC.compress(raw, asbytes=True))


def decompressed(stored: bytes) -> DecisionRecord:
    """The record.

    Raises:
        DataError: these bytes are none.
    """
    size = int.from_bytes(stored[:_SIZE_BYTES], "little")
    if not 0 < size <= LARGEST_BYTES:
        raise DataError(f"a decision record claims {size} bytes; 1 to {LARGEST_BYTES} are possible")
    try:
        raw = _CODEC.decompress(stored[_SIZE_BYTES:], size, asbytes=True)
        return DecisionRecord.FromString(raw)
    except (OSError, DecodeError) as error:
        raise DataError("a decision record is damaged") from error
