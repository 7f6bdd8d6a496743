"""Changes of the catalog as messages between the parts of a mesh."""

from __future__ import annotations

import pyarrow as pa

from recmesh.deployments.grpc_server import MAX_MESSAGE_BYTES
from recmesh.orchestrator.live_snapshot import FOLLOWED
from recmesh.storage.catalog_log import CatalogLog
from recmesh.storage.catalog_overlay import CatalogChanges
from recmesh.storage.erased_users import ErasedUsers
from recmesh.v1 import catalog_log_pb2

MOST_ROWS = 2000
"""Of one table in one message."""


def _message(changes: CatalogChanges) -> catalog_log_pb2.ReadChangesResponse:
    answer = catalog_log_pb2.ReadChangesResponse(
        through_seq=changes.through_seq,
        head_seq=changes.head_seq,
        erasure_salt=changes.erased.salt,
        erased_user_hashes=sorted(changes.erased.hashes),
    )
    for name, table in changes.tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        answer.tables.add(table=name, arrow=sink.getvalue().to_pybytes())
    return answer


def read_message(catalog: CatalogLog, after_seq: int) -> catalog_log_pb2.ReadChangesResponse:
    """The next changes: as many as fit a message."""
    limit = MOST_ROWS
    while True:
        message = _message(catalog.read(after_seq, limit=limit, columns=FOLLOWED))
        if message.ByteSize() < MAX_MESSAGE_BYTES or limit == 1:
            return message
        limit = max(limit // 4, 1)


def changes_of(message: catalog_log_pb2.ReadChangesResponse) -> CatalogChanges:
    """What a message tells."""
    tables = {}
    for part in message.tables:
        with pa.ipc.open_stream(part.arrow) as stream:
            tables[part.table] = stream.read_all()
    erased = ErasedUsers(message.erasure_salt, frozenset(message.erased_user_hashes))
    return CatalogChanges(message.through_seq, message.head_seq, tables, erased)
