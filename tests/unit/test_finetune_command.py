from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.models.nlp.encoder import Encoder, find_weights
from recmesh.models.nlp.query_clicks import queries_by_item, query_clicks
from recmesh.offline.datasets.conversion import Conversion
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query
from recmesh.offline.search.training_examples import Source, read_examples
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.ingest import ingest
from tests.small_world import NOW_UNIX_S, write_table
from tests.tiny_encoder import write_tiny_encoder

N = 60
WORDS = "heart skin lung bone river music winter paper"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"), WORDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries of one word, each answered by items of another: learnt, not read off."""
    folder = tmp_path_factory.mktemp("data")
    words = ["heart", "skin", "lung", "bone"]
    answers = ["river", "music", "winter", "paper"]
    items = [
        {"item_id": f"{word}{n}", "content_type": "a", "title": f"{word} {n}"}
        for word in answers
        for n in range(5)
    ]
    queries = [Query(f"q{n}", f"{words[n % 4]} {n}", "train") for n in range(N)]
    queries += [Query(f"d{n}", f"{words[n % 4]} {N + n}", "dev") for n in range(N)]
    judgements = [
        (query.query_id, f"{answers[n % 4]}{item}", 1)
        for n, query in enumerate(queries)
        for item in range(5)
    ]
    Conversion({"items": items}, queries=JudgedQueries(queries, judgements)).write(folder)
    return folder


def _run(
    monkeypatch: pytest.MonkeyPatch, home: Path, base: Path, data: Path, *words: str
) -> tuple[int, dict[str, object], str]:
    monkeypatch.setenv("RECMESH_HOME", str(home))
    options = ["--data", str(data), "--base", str(base), "--batch", "8", "--json", *words]
    said = CliRunner().invoke(app, ["embed", "finetune", *options])
    return said.exit_code, json.loads(said.stdout) if said.stdout else {}, said.stderr


def test_a_gain_on_unseen_queries_is_kept(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--judged", str(data), "--steps", "60", "--learning-rate", "0.01"]
    code, outcome, _ = _run(monkeypatch, tmp_path, base, data, *words, "--dims", "8")
    assert code == 0
    assert outcome["queries"] == N
    assert outcome["gain"]["low"] > 0  # type: ignore[index]
    folder = Path(str(outcome["folder"]))
    assert folder.parent == tmp_path / "encoders"
    assert json.loads((folder / "card.json").read_text()) == outcome
    kept = Encoder(find_weights(str(folder)))
    assert kept.version == outcome["version"]
    assert kept.encode(["heart"]).shape == (1, 16)
    assert not list((tmp_path / "encoders" / ".training").iterdir())


def test_no_gain_is_refused_and_nothing_kept(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--steps", "1", "--learning-rate", "1e-12"]
    code, outcome, _ = _run(monkeypatch, tmp_path, base, data, *words)
    assert code == 1
    assert outcome["adopted"] is False
    assert "held out" in str(outcome["judged_on"])
    assert not list((tmp_path / "encoders" / ".training").iterdir())
    assert [entry.name for entry in (tmp_path / "encoders").iterdir()] == [".training"]


def test_hard_negatives_are_mined(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for how in ("bm25", "encoder"):
        _, outcome, _ = _run(
            monkeypatch, tmp_path, base, data, "--steps", "1", "--hard-negatives", how
        )
        assert outcome["parameters"]["hard_negatives"] == how  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--judged", "DATA", "--split", "train"], "also examples"),
        (["--base", "all-MiniLM-L6-v2-int8"], "quantised"),
        (["--source", "citations"], "missing"),
        (["--batch", "1000"], "fewer"),
    ],
)
def test_what_cannot_work_is_said(
    words: list[str],
    why: str,
    base: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [str(data) if word == "DATA" else word for word in words]
    code, _, stderr = _run(monkeypatch, tmp_path, base, data, *words)
    assert code == 1
    assert why in stderr


def test_titles_and_citations_are_examples(tmp_path: Path) -> None:
    items = [
        {"item_id": "a", "content_type": "x", "title": "What?", "abstract": "", "body": "That."},
        {"item_id": "b", "content_type": "x", "title": "Why?", "abstract": "So.", "body": ""},
        {"item_id": "c", "content_type": "x", "title": "Mute", "abstract": "", "body": ""},
    ]
    citations = [("a", "b"), ("a", "elsewhere")]
    Conversion({"items": items}, citations=citations).write(tmp_path)
    cited = read_examples(tmp_path)
    assert cited.anchors == ["What?"]
    assert [cited.texts[row] for row in cited.answers[0]] == ["Why?. So."]
    titles = read_examples(tmp_path, Source.TITLES)
    assert titles.anchors == ["What?", "Why?"]
    assert [[titles.texts[row] for row in answer] for answer in titles.answers] == [
        ["That."],
        ["So."],
    ]


def test_absent_and_empty_sources_are_told_apart(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_examples(tmp_path)
    with pytest.raises(DataError, match="no examples"):
        read_examples(data, Source.TITLES)


def _event(n: int, kind: str, minute: float, user: str = "u", **more: str) -> dict[str, object]:
    time = datetime.fromtimestamp(NOW_UNIX_S, UTC) + timedelta(minutes=minute)
    return {"event_id": str(n), "user_id": user, "event_type": kind, "time": time, **more}


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    items = [{"item_id": i, "content_type": "a", "title": i} for i in ("i1", "i2")]
    events = [
        _event(0, "click", 0, item_id="i1"),
        _event(1, "search", 1, query=" Statins "),
        _event(2, "click", 2, item_id="i1"),
        _event(3, "click", 3, "v", item_id="i2"),
        _event(4, "save", 31, item_id="i2"),
        _event(5, "click", 32, item_id="i2"),
        _event(6, "search", 33, "v", query="statins"),
        _event(7, "impression", 34, "v", item_id="i2"),
        _event(8, "click", 34, "v", item_id="i1"),
        _event(9, "click", 35, "v", item_id="elsewhere"),
    ]
    write_table(source, "items", items)
    write_table(source, "events", events)
    ingest(source, tmp_path / "dataset")
    return tmp_path / "dataset"


def test_clicks_belong_to_the_search_before_them(clicks: Path) -> None:
    found = query_clicks(Dataset.open(clicks))
    assert found == {"statins": {"i1": 2, "i2": 1}}
    until = datetime.fromtimestamp(NOW_UNIX_S, UTC) + timedelta(minutes=31)
    assert query_clicks(Dataset.open(clicks), until) == {"statins": {"i1": 1}}


def test_an_ingested_data_set_is_read_as_it_is_now(clicks: Path, tmp_path: Path) -> None:
    items = write_table(tmp_path, "items", [{"item_id": "i1", "content_type": "a", "title": "i1"}])
    erased = Dataset("v", {"items": items})
    with pytest.raises(DataError, match="no examples"):
        read_examples(clicks, opened=lambda _: erased)


def test_items_are_found_by_the_queries_that_led_to_them(clicks: Path) -> None:
    log = query_clicks(Dataset.open(clicks)).items()
    assert queries_by_item(log) == {"i1": ["statins"], "i2": ["statins"]}


def test_what_one_doctor_alone_typed_is_passed_over(clicks: Path) -> None:
    dataset = Dataset.open(clicks)
    assert query_clicks(dataset, min_users=2) == query_clicks(dataset)
    assert query_clicks(dataset, min_users=3) == {}


def test_clicks_are_examples_by_their_count(clicks: Path) -> None:
    examples = read_examples(clicks)
    assert examples.anchors == ["statins"]
    assert examples.answers == [{0: 2.0, 1: 1.0}]
