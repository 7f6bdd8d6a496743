from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from recmesh.orchestrator.admission import Admitted, admit
from recmesh.orchestrator.eligibility import filter_candidates
from recmesh.orchestrator.index_source import from_interests, index_filter
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.query_search import from_query
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_rows import item_rows
from recmesh.storage.unix_time import NEVER_UNIX_S
from recmesh.storage.vector_index import IndexQuery
from recmesh.storage.vector_schema import ITEM_INDEX
from recmesh.v1 import common_pb2, model_pb2, recommendation_pb2
from tests.small_world import DAY_S, NOW_UNIX_S, FunctionModel, dataset, table

DIM = 4
VERSION = EmbeddingVersion("space", "items", DIM, 40)


class Embedder(FunctionModel):
    """Embeds everything as the same few vectors."""

    def __init__(self, vectors: list[list[float]], version: str = "space") -> None:
        super().__init__("nlp", lambda _: None)
        self.vectors, self.version = vectors, version

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        await self._work()
        values = [value for vector in self.vectors for value in vector]
        return model_pb2.EmbedResponse(values=values, dim=DIM, embedding_version=self.version)


@pytest.fixture
def world(tmp_path: Path) -> Dataset:
    return dataset(tmp_path)


def item_vectors(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, DIM)).astype(np.float32)


@pytest.fixture
def nlp() -> Embedder:
    return Embedder([[1.0, 0.0, 0.0, 0.0]])


@pytest.fixture
async def mesh(world: Dataset, nlp: Embedder) -> Mesh:
    index = ExactIndex()
    texts = world.items["title"].to_pylist()
    rows = item_rows(world.items, world.campaigns, item_vectors(len(texts)), texts, "space")
    await index.create("items", ITEM_INDEX, DIM)
    await index.upsert("items", rows)
    models = ModelPanel({"nlp": nlp})
    await models.refresh()
    return Mesh(models, index, Snapshot.of(world, Policy.load(), VERSION))


def request(**fields: object) -> recommendation_pb2.RecommendRequest:
    wanted = recommendation_pb2.RecommendRequest(user_id="reader", surface="search")
    for name, value in ({"query": "Title 17"} | fields).items():
        if isinstance(value, str):
            setattr(wanted, name, value)
        else:
            getattr(wanted, name).CopyFrom(value)
    wanted.context.time.seconds = NOW_UNIX_S
    return wanted


def published_after(days: int) -> recommendation_pb2.Filter:
    made = recommendation_pb2.Filter()
    made.published_after.seconds = NOW_UNIX_S - days * DAY_S
    return made


def published_before(days: int) -> recommendation_pb2.Filter:
    made = recommendation_pb2.Filter()
    made.published_before.seconds = NOW_UNIX_S - days * DAY_S
    return made


FILTERS = [
    recommendation_pb2.Filter(),
    recommendation_pb2.Filter(content_types=["guideline", "video"]),
    recommendation_pb2.Filter(specialties=["cardiology"]),
    recommendation_pb2.Filter(languages=["en", 'e"n']),
    recommendation_pb2.Filter(content_types=["a\nb"]),
    recommendation_pb2.Filter(topics=["t1", "t2"]),
    published_after(9),
    published_before(9),
]


@pytest.mark.parametrize("wanted", FILTERS)
async def test_the_index_drops_no_item_that_eligibility_keeps(
    mesh: Mesh, wanted: recommendation_pb2.Filter
) -> None:
    admitted = admit(mesh, request(filter=wanted), math.inf)
    catalog = admitted.catalog
    rows = np.arange(len(catalog), dtype=np.int32)
    kept = filter_candidates(catalog, rows, admitted.message, admitted.user, NOW_UNIX_S).kept
    assert mesh.index is not None
    everything = IndexQuery(np.ones((1, DIM), np.float32))
    found = await mesh.index.search(
        "items", everything, 1000, where=index_filter(admitted), timeout_s=1
    )
    assert {catalog.item_ids[row] for row in kept} <= set(found.ids)


async def test_what_is_expired_or_licensed_elsewhere_is_not_searched(mesh: Mesh) -> None:
    admitted = admit(mesh, request(), math.inf)
    rows = (await from_query(mesh, admitted)).rows
    assert not {"i5", "i6"} & {admitted.catalog.item_ids[row] for row in rows}


async def test_a_narrow_filter_still_fills_the_page(mesh: Mesh) -> None:
    surface = mesh.snapshot.policy.surfaces["search"].model_copy(update={"source_limit": 10})
    mesh.snapshot.policy.surfaces["search"] = surface
    wanted = recommendation_pb2.Filter(content_types=["guideline"])
    page = await recommend(mesh, request(filter=wanted), math.inf)
    assert len(page.recommendations) == 10
    assert all(int(slot.item_id[1:]) % 2 == 0 for slot in page.recommendations)


async def test_several_interests_are_all_served(mesh: Mesh, nlp: Embedder) -> None:
    nlp.vectors = item_vectors(40)[[30, 31]].tolist()
    admitted = admit(mesh, request(surface="feed", query=""), math.inf)
    rows = (await from_interests(mesh, admitted)).rows
    assert {admitted.catalog.item_ids[row] for row in rows[:2]} == {"i30", "i31"}


def status(admitted: Admitted) -> common_pb2.SourceStatus:
    return admitted.calls.statuses["vector-index"]


@pytest.mark.parametrize(
    ("embedder", "detail"),
    [
        (Embedder([[1.0, 0.0, 0.0, 0.0]], "other"), "encoder speaks other, the index space"),
        (Embedder([[1.0, 0.0, 0.0]]), "encoder gave 3 values for vectors of 4"),
        (Embedder([]), "encoder gave 0 values for vectors of 4"),
    ],
)
async def test_vectors_of_another_space_are_not_searched_with(
    mesh: Mesh, embedder: Embedder, detail: str
) -> None:
    mesh.models.clients["nlp"] = embedder
    admitted = admit(mesh, request(surface="feed", query=""), math.inf)
    rows = (await from_interests(mesh, admitted)).rows
    assert len(rows) == 0
    assert status(admitted).state == common_pb2.SOURCE_STATE_ERROR
    assert status(admitted).detail == detail


def test_rows_of_items_carry_every_field() -> None:
    items = table(
        "items",
        [
            {
                "item_id": "i1",
                "content_type": "video",
                "topics": ["heart", "", "x" * 300, "a\nb"],
                "countries": ["DE"],
                "language": "en",
                "sponsor": "acme",
                "published_at": 1_500,
                "expires_at": None,
            }
        ],
    )
    campaigns = table(
        "campaigns", [{"campaign_id": c, "item_ids": ["i1", "other"]} for c in ("c1", "c2")]
    )
    rows = item_rows(items, campaigns, np.ones((1, DIM), np.float32), ["text"], "space")
    checked = rows.checked(DIM)
    values = {name: np.asarray(column).tolist()[0] for name, column in checked.columns.items()}
    assert values == {
        "content_type": "video",
        "topics": ["heart"],
        "specialties": [],
        "language": "en",
        "countries": ["DE"],
        "published_at": 1,
        "expires_at": NEVER_UNIX_S,
        "sponsor": "acme",
        "campaign_ids": ["c1", "c2"],
        "abstract": "",
        "embedding_version": "space",
        "content_hash": "982d9e3eb996f559e633f4d194def376",
    }
