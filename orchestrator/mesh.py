"""What one orchestrator works with: models, the vector index, and one data snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field

from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.catalog import Catalog, item_catalog, user_catalog
from recmesh.orchestrator.live_histories import LiveHistories
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.signing_keys import SigningKeys
from recmesh.storage.vector_index import VectorIndex


@dataclass(frozen=True)
class Snapshot:
    """Everything a request reads that may be replaced by a newer version.

    A request takes it once, so all its stages see the same versions.
    """

    policy: Policy
    items: Catalog
    users: Catalog
    user_store: UserStore
    embedding: EmbeddingVersion | None
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
            embedding,
        )


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
