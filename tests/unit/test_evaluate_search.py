from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.models.nlp.encoder import Encoder
from recmesh.offline.datasets.conversion import Conversion
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query
from recmesh.offline.search import systems
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.evaluate import best, evaluate_search, figures
from recmesh.offline.search.legs import Searcher, Words
from recmesh.storage.errors import NotFoundError
from tests.bags_encoder import TOPICS, BagsEncoder

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """``jargon`` answers lung queries, but only an earlier query says so."""
    items = [
        {"item_id": f"{topic}{n}", "content_type": "a", "title": f"{topic} disease {n}"}
        for topic in TOPICS
        for n in range(5)
    ]
    items.append({"item_id": "jargon", "content_type": "a", "title": "spirometry"})
    queries = [
        Query("t1", "lung illness", "test"),
        Query("t2", "heart", "test"),
        Query("t3", "unjudged", "test"),
        Query("e1", "lung trouble", "train"),
        Query("e2", "Heart", "train"),
        Query("e3", "bone", "train"),
    ]
    judgements = [
        ("t1", "jargon", 2),
        ("t1", "lung0", 1),
        ("t2", "heart1", 1),
        ("t2", "elsewhere", 1),
        ("e1", "jargon", 1),
        ("e2", "heart1", 1),
        ("e3", "bone0", 1),
    ]
    Conversion({"items": items}, queries=JudgedQueries(queries, judgements)).write(tmp_path)
    return tmp_path


def test_a_collection_has_judged_queries_and_a_log_without_their_words(converted: Path) -> None:
    collection = SearchCollection.load(converted, "test")
    assert [query.query_id for query in collection.queries] == ["t1", "t2"]
    assert collection.grades == [{"jargon": 2, "lung0": 1}, {"heart1": 1}]
    assert [text for text, _ in collection.earlier] == ["lung trouble", "bone"]


def test_training_queries_have_no_log_of_themselves(converted: Path) -> None:
    assert not SearchCollection.load(converted, "train").earlier


def test_halves_part_a_split(converted: Path) -> None:
    halves = []
    for half in ("tune", "validate"):
        with contextlib.suppress(NotFoundError):
            halves += SearchCollection.load(converted, f"train-{half}").queries
    assert sorted(query.query_id for query in halves) == ["e1", "e2", "e3"]


@pytest.mark.parametrize("split", ["dev", "test-tuned"])
def test_an_absent_split_is_named(converted: Path, split: str) -> None:
    with pytest.raises(NotFoundError, match="split"):
        SearchCollection.load(converted, split)


def test_published_nfcorpus_is_read_as_its_conversion(tmp_path: Path) -> None:
    for split in ("test", "train"):
        raw = tmp_path / split / "raw"
        raw.mkdir(parents=True)
        (raw / "d-collection.docs").write_text("MED-1\tstatin survival abstract recent studies\n")
        (raw / "q-titles.queries").write_text(f"{split}-1\t{split} statins\n")
        (raw / "s-3.qrel").write_text(f"{split}-1\t0\tMED-1\t2\n{split}-1\t0\tMED-9\t1\n")
    collection = SearchCollection.load(tmp_path, "test")
    assert collection.texts == ["statin survival. recent studies"]
    assert collection.grades == [{"MED-1": 2}]
    assert collection.earlier == [("train statins", {"MED-1": 2})]


def test_words_find_stems_and_say_what_they_do_not_find() -> None:
    words = Words(["fractured bones", "skin"])
    found = words.scores("bone fracture")
    assert found[0] > 0
    assert np.isnan(found[1])
    assert np.isnan(words.scores("unheard")).all()
    assert np.isnan(words.scores("the")).all()


def test_the_best_are_found_ones_in_order() -> None:
    assert best(np.array([np.nan, 1.0, 3.0, 3.0], np.float32), 5) == [2, 3, 1]


def test_figures_are_those_counted_by_hand(converted: Path) -> None:
    collection = SearchCollection.load(converted, "test")
    rows = {item_id: row for row, item_id in enumerate(collection.item_ids)}
    found = figures(collection, [[rows["lung0"], rows["jargon"]], []])
    ideal = 2 + 1 / np.log2(3)
    np.testing.assert_allclose(found.ndcg, [(1 + 2 / np.log2(3)) / ideal, 0])
    np.testing.assert_allclose(found.recall, [1, 0])


def test_the_log_finds_what_no_word_and_no_vector_does(converted: Path) -> None:
    collection = SearchCollection.load(converted, "test")
    legs = Searcher(collection, BagsEncoder(), None).legs(0)
    assert collection.item_ids[best(systems.with_log(legs), 1)[0]] == "jargon"
    assert collection.item_ids[best(systems.without_log(legs), 1)[0]] != "jargon"


def test_candidates_of_no_leg_are_not_found(
    converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "DEPTH", 5)
    legs = Searcher(SearchCollection.load(converted, "test"), BagsEncoder(), None).legs(1)
    assert 5 <= np.isfinite(systems.without_log(legs)).sum() <= 10


def test_the_report_compares_with_the_sum_of_z_scores(converted: Path) -> None:
    report = evaluate_search(converted, "test", BagsEncoder(), None, bootstrap_samples=50)
    assert report.queries == 2
    assert report.earlier_queries == 2
    ours = report.systems[-1]
    assert ours.name == "ours"
    comparison = report.comparisons[-1]
    by_name = {system.name: system.ndcg_at_10.value for system in report.systems}
    difference = ours.ndcg_at_10.value - by_name[comparison.baseline]
    assert comparison.ndcg_at_10.value == pytest.approx(difference)
    assert json.loads(report.as_json())["queries"] == 2
    assert "| ours | " in report.as_markdown()


def test_without_earlier_queries_search_goes_without_a_log(converted: Path) -> None:
    report = evaluate_search(converted, "train", BagsEncoder(), None, bootstrap_samples=50)
    assert [system.name for system in report.systems][-1] == "ours, no query log"
    assert "no earlier queries" in report.summary()


def test_command_writes_what_it_prints(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "choose", lambda _: BagsEncoder())
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "home"))
    words = ["evaluate", "search", "--data", str(converted), "--bootstrap-samples", "50"]
    out = tmp_path / "reports" / "search.json"
    said = CliRunner().invoke(app, [*words, "--json", "--out", str(out)])
    assert said.exit_code == 0
    assert json.loads(said.stdout) == json.loads(out.read_text())
    table = CliRunner().invoke(app, words)
    assert "sum of z-scores" in table.stdout


@pytest.mark.parametrize("words", [["--data", "absent"], ["--data", ".", "--out", "r.txt"]])
def test_command_says_what_is_wrong(words: list[str], tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["evaluate", "search", *words])
    assert said.exit_code == 1
    assert "recmesh evaluate search: " in said.stderr


def test_words_alone_give_the_known_quality_on_nfcorpus() -> None:
    if not (REAL / "nfcorpus").exists():
        pytest.skip(f"nfcorpus is not in {REAL}")
    collection = SearchCollection.load(REAL / "nfcorpus", "test")
    words = Words(collection.texts)
    found = figures(collection, [best(words.scores(q.text), 100) for q in collection.queries])
    assert len(collection.queries) == 323
    assert found.ndcg.mean() == pytest.approx(0.335, abs=0.005)
