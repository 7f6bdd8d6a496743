"""Changes of the catalog as messages between the parts of a mesh."""

from __future__ import annotations

from recmesh.deployments.arrow_stream import table_bytes, table_of
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
        answer.tables.add(table=name, arrow=table_bytes(table))
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
    tables = {part.table: table_of(part.arrow) for part in message.tables}
    erased = ErasedUsers(message.erasure_salt, frozenset(message.erased_user_hashes))
    return CatalogChanges(message.through_seq, message.head_seq, tables, erased)
