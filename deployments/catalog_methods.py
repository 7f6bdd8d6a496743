"""The methods of ``CatalogService`` and ``CatalogLogService`` on one catalog log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from google.protobuf.message import Message

from recmesh.deployments.catalog_changes import read_message
from recmesh.deployments.catalog_rows import rows_to_write
from recmesh.deployments.grpc_service import Method
from recmesh.storage.catalog_log import CatalogLog, Delete, Erase, Write
from recmesh.storage.decision_log import DecisionLog
from recmesh.storage.erasure import ErasureCheck, checked_files, erase_from_files
from recmesh.storage.errors import RecMeshError
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.home import Home
from recmesh.storage.ingested_ids import IngestedIds
from recmesh.v1 import catalog_log_pb2, catalog_pb2


class CatalogMethods:
    """Belongs to one event loop. Writes are answered once they are durable."""

    def __init__(
        self,
        home: Home,
        catalog: CatalogLog,
        commits: GroupCommit[Write],
        decisions: DecisionLog,
    ) -> None:
        self._home = home
        self._decisions = decisions
        self._catalog = catalog
        self._commits = commits
        self.ingested = IngestedIds(home.dataset)
        self._erasing = asyncio.Lock()
        self.indexed_ids: Callable[[], Awaitable[Collection[str]]] | None = None
        """Asks the vector index for the ids it holds; None: nothing is indexed."""

    @property
    def offered(self) -> Mapping[str, Method]:
        """By name in ``CatalogService``."""
        return {
            "UpsertItems": self._upsert("items", catalog_pb2.UpsertItemsResponse),
            "DeleteItems": self._delete_items,
            "UpsertUsers": self._upsert("users", catalog_pb2.UpsertUsersResponse),
            "DeleteUsers": self._delete_users,
            "UpsertEdges": self._upsert("edges", catalog_pb2.UpsertEdgesResponse),
            "UpsertCampaigns": self._upsert("campaigns", catalog_pb2.UpsertCampaignsResponse),
        }

    async def _written(self, write: Write) -> Any:
        return await asyncio.wrap_future(self._commits.submit(write))

    def _upsert(self, table: str, response: Callable[..., Message]) -> Method:
        async def upsert(request: Message, _: float) -> Message:
            # A thousand rows take long enough to hold up others.
            write = await asyncio.to_thread(rows_to_write, table, request)
            return response(upserted=await self._written(write))

        return upsert

    async def _delete_items(
        self, request: catalog_pb2.DeleteItemsRequest, _: float
    ) -> catalog_pb2.DeleteItemsResponse:
        ids = list(dict.fromkeys(request.item_ids))
        known = await asyncio.to_thread(self.ingested.among, "items", ids)
        write = Delete("items", [(id_,) for id_ in ids], frozenset((id_,) for id_ in known))
        return catalog_pb2.DeleteItemsResponse(deleted=await self._written(write))

    async def _delete_users(
        self, request: catalog_pb2.DeleteUsersRequest, _: float
    ) -> catalog_pb2.DeleteUsersResponse:
        ids = list(dict.fromkeys(request.user_ids))
        async with self._erasing:
            known = await asyncio.to_thread(self.ingested.among, "users", ids)
            deleted = await self._written(Erase(ids, frozenset(known)))
            checks = await asyncio.to_thread(self._erase_files, ids)
            checks += await self._checked_index(ids)
        answer = catalog_pb2.DeleteUsersResponse(deleted=deleted)
        for check in checks:
            answer.checks.add(store=check.store, remaining=check.remaining, note=check.note)
        return answer

    async def _checked_index(self, user_ids: list[str]) -> list[ErasureCheck]:
        if self.indexed_ids is None:
            return []
        note = "holds items; doctors' vectors are made for a request and not kept"
        try:
            held = set(user_ids).intersection(await self.indexed_ids())
        except RecMeshError as error:
            return [ErasureCheck("vector collection", 0, f"not searched ({error}); {note}")]
        return [ErasureCheck("vector collection", len(held), note)]

    def _erase_files(self, user_ids: list[str]) -> list[ErasureCheck]:
        held = self.complete_erasures()
        self._decisions.erase_candidates(user_ids)
        rows = self._catalog.rows_of_users(user_ids)
        checks = [ErasureCheck(f"database: {name}", count) for name, count in rows.items()]
        left = self._decisions.candidates_left(user_ids)
        checks.append(ErasureCheck("database: decisions that recommend them", left))
        return [*checks, *checked_files(self._home, user_ids, held)]

    def complete_erasures(self) -> list[str]:
        """Erases from files whoever the log says was erased; returns models that named them.

        Raises:
            UnavailableError: an ingest is writing the data set; try again.
        """
        erased = self._catalog.read(columns={}).erased
        return erase_from_files(self._home, erased)

    async def read_changes(
        self, request: catalog_log_pb2.ReadChangesRequest, _: float
    ) -> catalog_log_pb2.ReadChangesResponse:
        """``CatalogLogService.ReadChanges``."""
        return await asyncio.to_thread(read_message, self._catalog, request.after_seq)
