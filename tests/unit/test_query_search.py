from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from recmesh.orchestrator.admission import Admitted, admit
from recmesh.orchestrator.index_source import VECTOR_INDEX
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.query_search import from_query
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.relevance_feedback import FeedbackSettings
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.errors import InvalidRequestError, UnavailableError
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_rows import item_rows
from recmesh.storage.vector_schema import ITEM_INDEX
from recmesh.v1 import common_pb2, model_pb2, recommendation_pb2
from tests.small_world import NOW_UNIX_S, FunctionModel, dataset, write_table

TITLES = {
    "failure": ("Heart failure", "Diuretics help. Hearts that fail need rest."),
    "rhythm": ("Heart rhythm", "Atrial fibrillation."),
    "rash": ("Skin rash", "Creams help hearts, too."),
    "stone": ("Kidney stones", ""),
    "coeur": ("Insuffisance cardiaque", "Les maladies cardiaques."),
}
VECTORS = {
    "failure": [1.0, 0.1, 0.0],
    "rhythm": [0.9, 0.3, 0.0],
    "rash": [0.0, 1.0, 0.0],
    "stone": [0.0, 0.0, 1.0],
    "coeur": [0.7, 0.0, 0.7],
}
KNOWN = EmbeddingVersion("space", "items", 3, len(TITLES))


class LanguageModel(FunctionModel):
    """Embeds every query as ``vector``; reads it as ``read_as``."""

    def __init__(self) -> None:
        super().__init__("nlp", lambda _: None)
        self.vector, self.read_as = [0.0, 0.0, 1.0], ""
        self.log: dict[str, float] = {}
        self.scores_lacking = 0
        self.asked: list[str] = []

    async def embed(
        self, request: model_pb2.EmbedRequest, *, timeout_s: float
    ) -> model_pb2.EmbedResponse:
        await self._work()
        read = [self.read_as] if self.read_as and request.correct_spelling else []
        return model_pb2.EmbedResponse(
            values=self.vector, dim=3, embedding_version="space", read_as=read
        )

    async def retrieve(
        self, request: model_pb2.RetrieveRequest, *, timeout_s: float
    ) -> model_pb2.RetrieveResponse:
        self.asked.append(request.query)
        best = sorted(self.log.items(), key=lambda pair: -pair[1])
        return model_pb2.RetrieveResponse(
            item_ids=[item_id for item_id, _ in best],
            scores=[score for _, score in best[self.scores_lacking :]],
        )


@pytest.fixture
def nlp() -> LanguageModel:
    return LanguageModel()


@pytest.fixture
async def mesh(nlp: LanguageModel, tmp_path: Path) -> Mesh:
    rows = [
        {
            "item_id": item_id,
            "content_type": "article",
            "title": title,
            "abstract": abstract,
            "language": "fr" if item_id == "coeur" else "en",
            "topics": ["heart" if title.startswith("Heart") else "other"],
        }
        for item_id, (title, abstract) in TITLES.items()
    ]
    world = Dataset("v", dataset(tmp_path).files | {"items": write_table(tmp_path, "items", rows)})
    texts = [f"{title}. {abstract}" for title, abstract in TITLES.values()]
    near = np.array([VECTORS[item_id] for item_id in TITLES], np.float32)
    index = ExactIndex()
    await index.create("items", ITEM_INDEX, 3)
    asked = {"stone": ["colic"]}
    await index.upsert(
        "items", item_rows(world.items, world.campaigns, near, texts, "space", asked)
    )
    models = ModelPanel({"nlp": nlp})
    await models.refresh()
    policy = Policy.load()
    search = policy.surfaces["search"].model_copy(update={"feedback": FeedbackSettings(items=0)})
    policy.surfaces["search"] = search
    return Mesh(models, index, Snapshot.of(world, policy, KNOWN))


def request(query: str, **fields: object) -> recommendation_pb2.RecommendRequest:
    wanted = recommendation_pb2.RecommendRequest(
        user_id="u", surface="search", query=query, **fields
    )
    wanted.context.time.seconds = NOW_UNIX_S
    return wanted


async def found(mesh: Mesh, query: str, **fields: object) -> tuple[list[str], Admitted]:
    admitted = admit(mesh, request(query, **fields), math.inf)
    rows = (await from_query(mesh, admitted)).rows
    return [admitted.catalog.item_ids[row] for row in rows], admitted


async def test_words_and_meaning_are_fused(mesh: Mesh, nlp: LanguageModel) -> None:
    nlp.vector = VECTORS["stone"]
    ids, _ = await found(mesh, "failing hearts")
    assert set(ids[:2]) == {"failure", "stone"}


async def test_scores_fall_from_one_to_nothing(mesh: Mesh) -> None:
    admitted = admit(mesh, request("heart"), math.inf)
    scores = (await from_query(mesh, admitted)).scores
    assert scores[0] == 1.0
    assert scores[-1] == 0.0
    assert (np.diff(scores) <= 0).all()


async def test_items_are_found_by_the_words_people_ask_with(mesh: Mesh) -> None:
    ids, _ = await found(mesh, "colic")
    assert ids[0] == "stone"


async def test_what_earlier_queries_led_to_is_lifted(mesh: Mesh, nlp: LanguageModel) -> None:
    nlp.vector = VECTORS["failure"]
    before, _ = await found(mesh, "heart")
    nlp.log = {"rash": 3.0, "unknown": 1.0}
    after, _ = await found(mesh, "heart")
    assert after.index("rash") < before.index("rash")


async def test_a_log_that_answers_nonsense_is_done_without_and_said(
    mesh: Mesh, nlp: LanguageModel
) -> None:
    nlp.log, nlp.scores_lacking = {"rash": 3.0, "stone": 1.0}, 1
    ids, admitted = await found(mesh, "heart")
    assert ids
    assert admitted.calls.statuses["nlp"].detail == "gave 1 scores for 2 items"


async def test_a_corrected_query_is_searched_beside_the_typed_one(
    mesh: Mesh, nlp: LanguageModel
) -> None:
    nlp.read_as = "rhythm"
    ids, _ = await found(mesh, "rythm")
    assert ids[0] == "rhythm"
    assert nlp.asked == ["rhythm"]
    page = await recommend(mesh, request("rythm"), math.inf)
    assert page.corrected_query == "rhythm"


async def test_nothing_is_corrected_that_is_to_be_taken_as_typed(
    mesh: Mesh, nlp: LanguageModel
) -> None:
    nlp.read_as = "rhythm"
    page = await recommend(mesh, request("rythm", as_typed=True), math.inf)
    assert page.corrected_query == ""
    assert page.recommendations[0].item_id != "rhythm"
    assert nlp.asked == ["rythm"]


async def test_a_query_is_read_in_the_language_of_the_interface(
    mesh: Mesh, nlp: LanguageModel
) -> None:
    nlp.failure = UnavailableError("down")
    english, _ = await found(mesh, "maladie")
    french, _ = await found(mesh, "maladie", context={"language": "fr"})
    assert english == []
    assert french == ["coeur"]


async def test_the_query_moves_toward_what_it_found_first(mesh: Mesh, nlp: LanguageModel) -> None:
    nlp.vector = [0.5, 0.8, 0.6]
    still, _ = await found(mesh, "rash")
    policy = mesh.snapshot.policy
    near = policy.surfaces["search"].model_copy(
        update={"feedback": FeedbackSettings(items=1, weight=5.0)}
    )
    policy.surfaces["search"] = near
    moved, _ = await found(mesh, "rash")
    assert still[0] == moved[0] == "rash"
    # Nearer to the rash than to where the query was.
    assert moved.index("rhythm") < still.index("rhythm")


async def test_without_its_encoder_a_query_is_searched_by_words_and_said(
    mesh: Mesh, nlp: LanguageModel
) -> None:
    nlp.failure = UnavailableError("down")
    ids, admitted = await found(mesh, "stones")
    assert ids == ["stone"]
    status = admitted.calls.statuses[VECTOR_INDEX]
    assert status.state == common_pb2.SOURCE_STATE_UNAVAILABLE
    assert status.detail == "no vector to search with"
    assert nlp.asked == [], "one that failed to embed is not asked for earlier queries"


async def test_stop_words_alone_are_searched_by_meaning(mesh: Mesh, nlp: LanguageModel) -> None:
    nlp.vector = VECTORS["rash"]
    assert (await found(mesh, "the of"))[0][0] == "rash"
    nlp.failure = UnavailableError("down")
    assert (await found(mesh, "the of"))[0] == []


async def test_what_suits_the_doctor_rises_whatever_they_asked(
    mesh: Mesh, nlp: LanguageModel
) -> None:
    def page_with(affinity: float) -> recommendation_pb2.RecommendRequest:
        return request("heart", objective_preferences={"affinity": affinity}, explain=True)

    nlp.opinion = lambda item_id: 3.0 if item_id == "rash" else None
    before = await recommend(mesh, page_with(0.0), math.inf)
    after = await recommend(mesh, page_with(1.0), math.inf)
    assert before.recommendations[0].item_id != "rash"
    assert after.recommendations[0].item_id == "rash"
    affinity = {s.item_id: s.objective_scores["affinity"] for s in after.recommendations}
    assert affinity["rash"] > 0.9
    assert affinity["stone"] == 0.0


def spans(text: recommendation_pb2.HighlightedText) -> list[str]:
    return [text.text[mark.start : mark.end] for mark in text.highlights]


async def test_a_page_shows_what_matched(mesh: Mesh) -> None:
    page = await recommend(mesh, request("failing hearts", snippets=True), math.inf)
    first = page.recommendations[0]
    assert first.item_id == "failure"
    assert first.title.text == "Heart failure"
    assert spans(first.title) == ["Heart"]  # "failure" has another stem than "failing"
    assert first.snippet.text == TITLES["failure"][1]
    assert spans(first.snippet) == ["Hearts", "fail"]


async def test_a_page_without_its_abstracts_is_shown_and_said(
    mesh: Mesh, nlp: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp.vector = VECTORS["failure"]

    async def fails(*_: object, **__: object) -> dict[str, object]:
        raise UnavailableError("down")

    monkeypatch.setattr(mesh.index, "fetch", fails)
    page = await recommend(mesh, request("heart", snippets=True), math.inf)
    assert page.degraded
    assert spans(page.recommendations[0].title) == ["Heart"]
    assert page.recommendations[0].snippet.text == ""


async def test_facets_count_everything_found_in_the_order_asked(mesh: Mesh) -> None:
    wanted = [recommendation_pb2.FACET_FIELD_LANGUAGE, recommendation_pb2.FACET_FIELD_TOPIC]
    page = await recommend(mesh, request("heart", page_size=1, facets=wanted), math.inf)
    assert [facet.field for facet in page.facets] == wanted
    counted = [{v.value: v.count for v in facet.values} for facet in page.facets]
    assert counted == [{"en": 4, "fr": 1}, {"other": 3, "heart": 2}]


async def test_the_read_is_found_again(mesh: Mesh) -> None:
    policy = mesh.snapshot.policy
    assert not policy.surfaces["search"].hide_seen
    assert policy.surfaces["feed"].hide_seen


@pytest.mark.parametrize("field", ["snippets", "as_typed"])
def test_what_needs_a_query_is_refused_without(mesh: Mesh, field: str) -> None:
    wanted = recommendation_pb2.RecommendRequest(user_id="u", surface="feed", **{field: True})
    with pytest.raises(InvalidRequestError, match=field):
        admit(mesh, wanted, math.inf)
