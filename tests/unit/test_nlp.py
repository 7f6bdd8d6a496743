from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from recmesh.models.model import Context, Model, TrainedModel, TrainOptions, User
from recmesh.models.nlp import load, train
from recmesh.models.nlp.doctor_embedding import DoctorEmbedding
from recmesh.models.nlp.encoder import MAX_TOKENS, PACKAGED, Encoder
from recmesh.models.nlp.query_log import asked
from recmesh.models.nlp.torch_backend import TorchBackend
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ArtifactError, ConfigurationError
from recmesh.storage.interchange import EVENT_TYPES
from tests.small_world import write_table

NOW = 1_700_000_000
TITLES = {
    "heart": "Atrial fibrillation and anticoagulation",
    "heart2": "Heart failure with reduced ejection fraction",
    "skin": "Topical treatment of plaque psoriasis",
    "tax": "Accounting for a small practice",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    items = [{"item_id": i, "content_type": "article", "title": t} for i, t in TITLES.items()]
    users = [{"user_id": "u", "specialties": ["Cardiology"]}]
    searches = [
        {
            "event_id": f"{user}-{step}",
            "user_id": user,
            "event_type": "click" if item else "search",
            "item_id": item,
            "query": "" if item else query,
            "time": datetime.fromtimestamp(NOW - 9_000 + 100 * n + step, UTC),
        }
        for n, (user, query, opened) in enumerate(
            [
                ("v", "itchy plaques", "skin"),
                ("w", "Itchy plaques ", "skin"),
                ("w", "plaques of John Doe", "skin"),
            ]
        )
        for step, item in enumerate(["", opened], start=10 * n)
    ]
    events = [
        {
            "event_id": str(n),
            "user_id": "u",
            "item_id": item,
            "event_type": "click",
            "time": datetime.fromtimestamp(NOW + n, UTC),
        }
        for n, item in enumerate(["heart", "heart2"])
    ]
    rows = {"items": items, "users": users, "events": searches + events}
    return Dataset("v", {name: write_table(folder, name, r) for name, r in rows.items()})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(dataset: Dataset, cache: Path) -> TrainedModel:
    return train(dataset, TrainOptions(parameters={"cache": str(cache)}))


@pytest.fixture(scope="module")
def model(trained: TrainedModel) -> Model:
    return load(Artifact("1", trained.card, trained.tensors, trained.strings))


READER = User("u", ["heart"], [EVENT_TYPES["click"]], [NOW - 60])


def test_vectors_have_unit_length(trained: TrainedModel, model: Model) -> None:
    for vectors in (trained.tensors["item_vectors"], model.embed_texts(["a", "longer text"])):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_second_training_embeds_nothing_and_is_equal(
    dataset: Dataset, cache: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recmesh.models.nlp.encoder.Encoder._load", lambda _: pytest.fail("loaded"))
    again = train(dataset, TrainOptions(parameters={"cache": str(cache)}))
    assert again.card == trained.card
    for name, tensor in trained.tensors.items():
        np.testing.assert_array_equal(tensor, again.tensors[name])


def test_reader_prefers_alike_items(model: Model) -> None:
    scores = model.score(Context(READER, "feed", NOW), ["heart2", "tax", "nowhere"])
    assert scores[0] > scores[1]
    assert np.isnan(scores[2])


def test_scores_are_standard_over_the_catalogue(model: Model) -> None:
    scores = model.score(Context(READER, "feed", NOW), list(TITLES))
    assert scores.mean() == pytest.approx(0, abs=1e-4)
    assert scores.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("query", ["", "skin disease"])
def test_score_does_not_depend_on_candidates(model: Model, query: str) -> None:
    context = Context(READER, "feed", NOW, query)
    together = model.score(context, list(TITLES))
    alone = np.concatenate([model.score(context, [item]) for item in TITLES])
    np.testing.assert_array_equal(together, alone)


def test_query_finds_its_item(model: Model) -> None:
    scores = model.score(Context(User("x"), "search", NOW, "skin disease"), list(TITLES))
    assert list(TITLES)[int(scores.argmax())] == "skin"


def searched(query: str) -> Context:
    return Context(User("x"), "search", NOW, query)


def test_a_query_retrieves_what_an_earlier_one_led_to(model: Model) -> None:
    found = model.retrieve(searched("itching plaques"), 10)
    assert found.item_ids == ["skin"]
    assert found.scores[0] > 0
    assert model.retrieve(searched("itching plaques"), 10).item_ids == ["skin"]
    assert model.retrieve(searched(""), 10).item_ids == []


def test_what_one_doctor_alone_asked_is_not_kept(trained: TrainedModel) -> None:
    assert trained.strings["queries"] == ["itchy plaques"]
    artifact = Artifact("1", trained.card, trained.tensors, trained.strings)
    assert asked(artifact) == {"skin": ["itchy plaques"]}
    assert "john" not in trained.strings["words"]


def test_spelling_is_corrected_by_the_words_of_items_and_queries(model: Model) -> None:
    assert model.corrected("psoriassis and plagues") == "psoriasis and plaques"


def test_profile_serves_newcomers(model: Model) -> None:
    newcomer = User("new", specialties=["Cardiology"])
    scores = model.score(Context(newcomer, "feed", NOW), ["heart", "tax"])
    assert scores[0] > scores[1]


def test_unknown_user_has_no_vector_and_no_opinion(model: Model) -> None:
    stranger = User("x", ["nowhere"], [EVENT_TYPES["click"]], [NOW], specialties=["Alchemy"])
    assert model.embed_user(stranger, NOW) is None
    assert np.isnan(model.score(Context(stranger, "feed", NOW), list(TITLES))).all()


def test_history_fades() -> None:
    vectors = np.eye(2, dtype=np.float32)
    click = EVENT_TYPES["click"]
    user = User("u", ["a", "b"], [click, click], [NOW - 30 * 86_400, NOW])
    vector = DoctorEmbedding(30, 1).embed(user, NOW, {"a": 0, "b": 1}, vectors, {})
    assert vector is not None
    assert vector[0] / vector[1] == pytest.approx(0.5)


def test_both_backends_make_nearly_the_same_vectors() -> None:
    texts = ["heart failure", "Dupilumab in eczema with atopic dermatitis: a case"]
    int8, float32 = (Encoder.choose(name) for name in PACKAGED)
    assert int8.version != float32.version
    assert (int8.encode(texts) * float32.encode(texts)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("name", PACKAGED)
def test_a_vector_does_not_depend_on_the_texts_beside_it(name: str) -> None:
    encoder = Encoder.choose(name)
    texts = ["heart", "a much longer text about the treatment of eczema in adults", "skin"]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    # bfloat16 rounds to eight bits, and how a product is cut into blocks depends on the batch.
    assert (together * alone).sum(axis=1).min() > 0.9999


def test_low_precision_stays_in_the_space() -> None:
    weights = PACKAGED["all-MiniLM-L6-v2"]()
    texts = ["heart failure", "Dupilumab in eczema with atopic dermatitis: a case"]
    vectors = []
    for dtype in (torch.float32, torch.bfloat16):
        encoder = Encoder(weights)
        encoder._backend = TorchBackend(weights.tokenizer, MAX_TOKENS, dtype)
        vectors.append(encoder.encode(texts))
    assert (vectors[0] != vectors[1]).any()
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.999


def test_weights_that_were_tampered_with_are_refused(tmp_path: Path) -> None:
    weights = replace(PACKAGED["all-MiniLM-L6-v2-int8"](), file=tmp_path / "model.onnx")
    weights.file.write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="not the all-MiniLM-L6-v2-int8 that was tested"):
        _ = Encoder(weights).version


def test_a_folder_with_onnx_weights_is_an_encoder(tmp_path: Path) -> None:
    packaged = PACKAGED["all-MiniLM-L6-v2-int8"]()
    for file in (packaged.file, packaged.tokenizer / "tokenizer.json"):
        (tmp_path / file.name).symlink_to(file)
    encoder = Encoder.choose(str(tmp_path))
    assert encoder.version.startswith(tmp_path.name)
    assert encoder.encode(["heart"]).shape == (1, 384)


def test_unknown_encoder_says_how_to_mend_it(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="RECMESH_ENCODER"):
        train(dataset, TrainOptions(parameters={"encoder": str(tmp_path)}))
