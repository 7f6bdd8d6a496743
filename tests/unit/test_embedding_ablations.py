from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.models.nlp.content_embedding import PASSAGE_WORDS, ContentEmbedding
from recmesh.models.nlp.encoder import Encoder
from recmesh.offline.datasets.conversion import Conversion
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query
from recmesh.offline.embeddings.ablation import Ablation
from recmesh.offline.embeddings.doctors import clusters
from recmesh.storage.ingest import ingest
from tests.bags_encoder import TOPICS, BagsEncoder
from tests.small_world import NOW_UNIX_S, write_table

LONG = " ".join(str(n) for n in range(3 * PASSAGE_WORDS))


@pytest.mark.parametrize("way", ContentEmbedding)
def test_every_item_has_a_text(way: ContentEmbedding) -> None:
    assert way.texts("A title", "") == ["A title"]
    assert all(text.startswith("A title") for text in way.texts("A title", LONG))


def test_passages_hold_every_word_once() -> None:
    passages = ContentEmbedding.POOLED.texts("Title", LONG)
    assert len(passages) > 2
    read = " ".join(passage.removeprefix("Title. ") for passage in passages)
    assert read == LONG


def test_an_item_is_the_mean_or_the_best_of_its_passages() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    query = np.array([[1, 0]], np.float32)
    pooled = ContentEmbedding.POOLED.cosines(query, vectors, [0, 2])
    np.testing.assert_allclose(pooled[0], [1 / np.sqrt(2), 1], rtol=1e-6)
    best = ContentEmbedding.MAX_SIM.cosines(query, vectors, [0, 2])
    np.testing.assert_array_equal(best, [[1, 1]])


def test_clusters_part_what_is_far() -> None:
    east, north = np.eye(2, dtype=np.float32)
    near_east = np.array([0.99, 0.14], np.float32)
    vectors = np.stack([east, north, near_east])
    centres = clusters(vectors, np.array([1, 1, 1], np.float32), 2)
    likeness = centres @ vectors.T
    assert likeness[:, 1].max() == pytest.approx(1)
    assert likeness[:, 0].argmax() == likeness[:, 2].argmax()
    assert len(clusters(vectors[:1], np.ones(1, np.float32), 3)) == 1


def test_gains_are_over_the_first() -> None:
    values = {"served": {"m": np.array([0.0, 1.0])}, "other": {"m": np.array([1.0, 1.0])}}
    ablation = Ablation.of("Two.", values)
    assert ablation.variants[1].gains["m"].value == 0.5
    assert "| other | 1.000 [1.000, 1.000] | +0.500" in ablation.as_markdown()


def _compare(monkeypatch: pytest.MonkeyPatch, home: Path, *words: str) -> dict[str, object]:
    monkeypatch.setattr(Encoder, "choose", lambda _="": BagsEncoder())
    monkeypatch.setenv("RECMESH_HOME", str(home))
    said = CliRunner().invoke(app, ["evaluate", "embeddings", *words, "--json"])
    assert said.exit_code == 0, said.stderr
    parsed: dict[str, object] = json.loads(said.stdout)
    return {variant["name"]: variant["figures"] for variant in parsed["variants"]}  # type: ignore[attr-defined]


def test_passages_find_what_stands_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [
        {"item_id": "late", "content_type": "a", "title": "x", "abstract": f"{LONG} heart"},
        {"item_id": "title", "content_type": "a", "title": "heart skin", "abstract": LONG},
        {"item_id": "other", "content_type": "a", "title": "bone", "abstract": ""},
    ]
    judged = JudgedQueries([Query("q", "heart", "dev")], [("q", "late", 1)])
    Conversion({"items": items}, queries=judged).write(tmp_path)
    found = _compare(monkeypatch, tmp_path / "home", "content", "--data", str(tmp_path))
    by_way = {
        name.partition(" ")[0]: figures["nDCG@10"]["value"] for name, figures in found.items()
    }  # type: ignore[index]
    assert set(by_way) == {way.value for way in ContentEmbedding}
    assert by_way["max-sim"] == 1.0
    assert by_way["title"] < 1.0


def test_interests_serve_doctors_of_two_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody reads mostly one topic, and later another that they had read once."""
    source = tmp_path / "source"
    source.mkdir()
    items = [
        {"item_id": f"{topic}{n}", "content_type": "a", "title": f"{topic} {n}"}
        for topic in TOPICS
        for n in range(15)
    ]
    events = []
    for user in range(8):
        rng = np.random.default_rng(user)
        main, side = rng.permutation(len(TOPICS))[:2]
        read = [f"{TOPICS[main]}{n}" for n in rng.permutation(15)[:8]]
        read += [f"{TOPICS[side]}{n}" for n in rng.permutation(15)[:5]]
        events += [
            {
                "event_id": f"{user}-{n}",
                "user_id": f"u{user}",
                "item_id": item,
                "event_type": "click",
                "time": datetime.fromtimestamp(NOW_UNIX_S + 100 * n + user, UTC),
            }
            for n, item in enumerate(read)
        ]
    events.append(
        {
            "event_id": "s",
            "user_id": "u0",
            "event_type": "search",
            "query": "bone",
            "time": datetime.fromtimestamp(NOW_UNIX_S, UTC),
        }
    )
    write_table(source, "items", items)
    write_table(source, "events", events)
    ingest(source, tmp_path / "home" / "dataset")
    found = _compare(monkeypatch, tmp_path / "home", "doctors")
    ndcg = {name: figures["nDCG@10"]["value"] for name, figures in found.items()}  # type: ignore[index]
    assert ndcg["2 interests"] > ndcg["profile alone"]
    assert next(iter(ndcg)).startswith("served")


def test_campaigns_are_nearest_to_those_who_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doctors of the campaign's topic answer it; others do not."""
    source = tmp_path / "source"
    source.mkdir()
    start = datetime.fromtimestamp(NOW_UNIX_S, UTC)

    def event(n: int, user: int, kind: str, item: str, campaign: str = "") -> dict[str, object]:
        return {
            "event_id": f"{kind}{n}{user}",
            "user_id": f"u{user}",
            "item_id": item,
            "event_type": kind,
            "time": start + timedelta(minutes=n),
            "campaign_id": campaign,
        }

    events = []
    for user in range(20):
        topic = TOPICS[user % 2]
        events.append(event(user, user, "click", f"{topic}0"))
        events.append(event(100 + user, user, "impression", "heart1", "c"))
        if topic == "heart":
            events.append(
                {**event(100 + user, user, "click", "heart1", "c"), "event_id": f"c{user}"}
            )
    items = [
        {"item_id": f"{topic}{n}", "content_type": "a", "title": f"{topic} {n}"}
        for topic in TOPICS
        for n in range(2)
    ]
    campaign = {
        "campaign_id": "c",
        "sponsor": "s",
        "item_ids": ["heart1"],
        "specialties": ["skin"],
        "starts_at": start,
        "ends_at": start + timedelta(days=9),
        "budget_impressions": 100,
        "disclosure": "Sponsored",
    }
    write_table(source, "items", items)
    write_table(source, "events", events)
    write_table(source, "campaigns", [campaign])
    ingest(source, tmp_path / "home" / "dataset")
    found = _compare(monkeypatch, tmp_path / "home", "campaigns")
    auc = {name: figures["AUC"]["value"] for name, figures in found.items()}  # type: ignore[index]
    assert auc["items"] == auc["audience won"] == 1.0
    assert auc["targeting"] < 0.5


def test_a_missing_data_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    said = CliRunner().invoke(app, ["evaluate", "embeddings", "doctors"])
    assert said.exit_code == 1
    assert "recmesh ingest" in said.stderr
