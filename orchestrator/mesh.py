"""What one orchestrator works with: models, the vector index, and one data snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.campaign_ledger import CampaignLedger
from recmesh.orchestrator.campaigns.pacing_board import PacingBoard
from recmesh.orchestrator.catalog import Catalog, Int32, Int64, item_catalog, user_catalog
from recmesh.orchestrator.experiments.served_experiments import PageMaking, ServedExperiments
from recmesh.orchestrator.live_histories import LiveHistories
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.model_trials.shadow_mirror import ShadowMirror
from recmesh.orchestrator.own_work import OwnWork
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recent_impressions import RecentImpressions
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.signing_keys import SigningKeys
from recmesh.storage.vector_index import VectorIndex

if TYPE_CHECKING:
    # A decision is made with a mesh.
    from recmesh.orchestrator.decisions.decision_keeper import DecisionKeeper


@dataclass(frozen=True)
class Snapshot:
    """Everything a request reads that may be replaced by a newer version.

    A request takes it once, so all its stages see the same versions.
    """

    policy: Policy
    items: Catalog
    users: Catalog
    user_store: UserStore
    campaigns: CampaignBook
    embedding: EmbeddingVersion | None
    models: Mapping[str, str] = field(default_factory=dict)
    """Who is asked instead of a model, by the model."""
    catalog_seq: int | None = 0
    """The last write to the catalog that is in it; None: how many there were is not known."""

    @classmethod
    def of(cls, dataset: Dataset, policy: Policy, embedding: EmbeddingVersion | None) -> Snapshot:
        """Builds the columnar views of a data set."""
        return cls(
            policy,
            item_catalog(dataset, policy.popularity_half_life_days),
            user_catalog(dataset),
            UserStore(dataset),
            CampaignBook.of(dataset.campaigns),
            embedding,
        )

    def made_by(self, making: PageMaking) -> Snapshot:
        """The same data under an arm's policy, embedding version and models; itself where none is.

        Made once for each.
        """
        policy, embedding = making.policy or self.policy, making.embedding or self.embedding
        if policy is self.policy and embedding is self.embedding and not making.models:
            return self
        collection = embedding.collection if embedding else ""
        key = policy.version, collection, frozenset(making.models.items())
        found = self._otherwise_made.get(key)
        if found is None:
            found = replace(self, policy=policy, embedding=embedding, models=making.models)
            self._otherwise_made[key] = found
        return found

    def asked(self, model: str) -> str:
        """The name under which the panel knows who answers for a model."""
        return self.models.get(model, model)

    @cached_property
    def _otherwise_made(self) -> dict[tuple[str, str, frozenset[tuple[str, str]]], Snapshot]:
        return {}

    @cached_property
    def paid_rows(self) -> tuple[Int32, Int64]:
        """Item rows that campaigns pay for, and the row of the campaign ``[links]``."""
        ids, campaign = self.campaigns.links
        rows = self.items.rows(ids)
        known = rows >= 0
        return rows[known], campaign[known]


@dataclass(slots=True)
class Mesh:
    """The parts a request is answered with. Belongs to one event loop."""

    models: ModelPanel
    index: VectorIndex | None
    snapshot: Snapshot
    histories: LiveHistories = field(default_factory=LiveHistories)
    tokens: AttributionTokens = field(
        default_factory=lambda: AttributionTokens(SigningKeys.random())
    )
    """Signs pages; by default with a key that nobody else has, so that no event refers to one."""
    ledger: CampaignLedger | None = None
    """Holds sponsored slots; None: there are none."""
    pacing: PacingBoard = field(default_factory=PacingBoard)
    impressions: RecentImpressions = field(default_factory=RecentImpressions)
    experiments: ServedExperiments = field(default_factory=ServedExperiments)
    decisions: DecisionKeeper | None = None
    """Records every page; None: nobody does."""
    own_work: OwnWork = field(default_factory=OwnWork)
    shadows: ShadowMirror = field(init=False)

    def __post_init__(self) -> None:
        self.shadows = ShadowMirror(self.models)
