"""The one writer of catalog, events and sponsored slots, and what follows them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import structlog

from recmesh.deployments.campaign_methods import CampaignMethods
from recmesh.deployments.campaign_pacer import CampaignPacer
from recmesh.deployments.campaign_traffic import CampaignTraffic
from recmesh.deployments.catalog_methods import CatalogMethods
from recmesh.deployments.current_campaigns import CurrentCampaigns
from recmesh.deployments.decision_methods import DecisionMethods
from recmesh.deployments.event_check import EventCheck
from recmesh.deployments.feedback_methods import FeedbackMethods
from recmesh.deployments.grpc_service import Method
from recmesh.deployments.item_indexers import ItemIndexers
from recmesh.deployments.mesh_config import CampaignsTable, DecisionsTable, EventsTable
from recmesh.deployments.retention import Prune, Retention
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.model_client import ModelClient
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.campaign_ledger import SlotLedger
from recmesh.storage.catalog_log import CatalogLog, Write
from recmesh.storage.catalog_overlay import CatalogOverlay
from recmesh.storage.catalog_tables import SCHEMAS
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.decision_log import DecisionLog
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog
from recmesh.storage.event_retention import EventRetention
from recmesh.storage.group_commit import GroupCommit
from recmesh.storage.home import Home
from recmesh.storage.known_ids import KnownIds
from recmesh.storage.milvus_index import MilvusIndex

log = structlog.get_logger(__name__)

TRAFFIC_COLUMNS = {"users": SCHEMAS["users"].columns.names}


class CatalogWriter:
    """Takes writes once started. Belongs to the event loop that starts it."""

    methods: CatalogMethods
    feedback: FeedbackMethods
    campaigns: CampaignMethods
    decisions: DecisionMethods

    def __init__(
        self,
        home: Home,
        database_uri: str,
        embedder: ModelClient | None,
        index_uri: str,
        tokens: AttributionTokens,
        *,
        policy: Path = DEFAULT_POLICY,
        campaigns: CampaignsTable | None = None,
        decisions: DecisionsTable | None = None,
        events: EventsTable | None = None,
    ) -> None:
        """What it works with.

        Args:
            home: folder of data, policies and artifacts.
            database_uri: PostgreSQL; empty: the embedded one.
            embedder: the language model; None: nothing is indexed.
            index_uri: Milvus; empty: nothing is indexed.
            tokens: verify events.
            policy: file that says what campaigns may do until a version is promoted.
            campaigns: how slots are held and priced; None: as by default.
            decisions: how long records of pages are kept; None: as by default.
            events: how long events are; None: as by default.
        """
        self._home = home
        self._database_uri = database_uri
        self._embedder = embedder
        self._index_uri = index_uri
        self._tokens = tokens
        self._policy = policy
        self._table = campaigns or CampaignsTable()
        self._keep_decisions_days = (decisions or DecisionsTable()).keep_days
        self._keep_events_days = (events or EventsTable()).keep_days
        self._closing = contextlib.AsyncExitStack()

    async def start(self, wait_s: float = 0.0) -> None:
        """Opens the database and begins to index what was written meanwhile.

        Another process that writes it may take ``wait_s`` seconds to leave.

        Raises:
            ConfigurationError: another process writes the database.
            UnavailableError: the database does not answer.
        """
        database = await asyncio.to_thread(
            Database.for_writing,
            self._database_uri,
            self._home.database,
            wait_s=wait_s,
        )
        self._closing.callback(database.close)
        catalog = CatalogLog(database)
        commits: GroupCommit[Write] = GroupCommit(catalog.write)
        self._closing.push_async_callback(asyncio.to_thread, commits.close)
        decisions = DecisionLog(database)
        self.methods = CatalogMethods(self._home, catalog, commits, decisions)
        self.decisions = DecisionMethods(decisions)
        self._closing.push_async_callback(asyncio.to_thread, self.decisions.close)
        self._prune("decisions", decisions.prune, self._keep_decisions_days)
        self._prune("old events", EventRetention(database).prune, self._keep_events_days)
        known = KnownIds(database, self.methods.ingested)
        check = EventCheck(self._tokens, known.among_items_and_users)
        self.feedback = FeedbackMethods(EventLog(database), check)
        self._closing.push_async_callback(asyncio.to_thread, self.feedback.close)
        self._keep_campaigns(database, catalog)
        try:
            await asyncio.to_thread(self.methods.complete_erasures)
        except UnavailableError as error:
            log.warning("erasures_not_completed", reason=str(error))
        if self._embedder is not None and self._index_uri:
            index = MilvusIndex(self._index_uri)
            self._closing.push_async_callback(index.close)
            indexers = ItemIndexers(self._home, catalog, commits, index, self._embedder)
            self.methods.indexed_ids = indexers.held_ids
            following = asyncio.create_task(indexers.run(), name="index-items")
            self._closing.push_async_callback(_end, following)

    def _prune(self, what: str, prune: Prune, keep_days: float) -> None:
        """Begins to delete what is too old."""
        retention = Retention(what, prune, keep_days)
        pruning = asyncio.create_task(retention.run(), name=f"prune-{what}")
        self._closing.push_async_callback(retention.close)
        self._closing.push_async_callback(_end, pruning)

    def _keep_campaigns(self, database: Database, catalog: CatalogLog) -> None:
        """Takes sponsored slots, and begins to pace campaigns."""
        ledger = SlotLedger(database)
        campaigns = CurrentCampaigns(self._home, catalog, self._policy)

        def read_traffic(now_unix_s: float, page_size: int) -> CampaignTraffic:
            overlay = CatalogOverlay(catalog.read(columns=TRAFFIC_COLUMNS))
            dataset = Dataset.open_or_empty(self._home.dataset).under(overlay)
            return CampaignTraffic.read(dataset, database, now_unix_s, page_size)

        pacer = CampaignPacer(ledger, campaigns, read_traffic, self._table)
        self.campaigns = CampaignMethods(ledger, campaigns, pacer.traffic)
        self._closing.push_async_callback(asyncio.to_thread, self.campaigns.close)
        pacing = asyncio.create_task(pacer.run(), name="pace-campaigns")
        self._closing.push_async_callback(pacer.close)
        self._closing.push_async_callback(_end, pacing)

    @property
    def catalog_service(self) -> Mapping[str, Method]:
        """By name in ``CatalogService``."""
        return {**self.methods.offered, **self.campaigns.catalog_service}

    async def close(self) -> None:
        """Ends indexing, writes what waits, and lets go of the database."""
        await self._closing.aclose()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
