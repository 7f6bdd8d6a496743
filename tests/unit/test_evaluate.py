from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.models.registry import loader
from recmesh.offline.evaluation.evaluate import Settings
from recmesh.offline.evaluation.evaluate import evaluate as evaluate_dataset
from recmesh.offline.evaluation.temporal_split import TemporalSplit
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from tests.small_world import dataset, tastes_home

MODELS = ["--models", "cf", "--models", "network"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tastes_home(tmp_path_factory.mktemp("tastes"))


def evaluate(home: Path, *arguments: str) -> str:
    result = CliRunner().invoke(
        app, ["evaluate", "--home", str(home), "--bootstrap-samples", "50", *arguments]
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_models_that_know_the_taste_beat_what_does_not(home: Path) -> None:
    report = json.loads(evaluate(home, *MODELS, "--json", "--k", "3"))
    ndcg = {s["name"]: s["segments"]["known"]["ndcg"] for s in report["systems"]}
    assert list(ndcg) == [
        *("random", "popularity", "recent popularity", "item-kNN", "EASE"),
        *("cf", "network", "blend"),
    ]
    assert ndcg["cf"]["value"] > ndcg["random"]["value"] + 0.2
    assert ndcg["blend"]["value"] > ndcg["popularity"]["value"]
    assert sum(report["weights"].values()) == pytest.approx(1.0, abs=1e-3)
    for system in report["systems"]:
        for metric, found in system["segments"]["all"].items():
            if found["value"] is not None:
                assert found["low"] - 1e-9 <= found["value"] <= found["high"] + 1e-9, metric
    paired = {c["segment"]: c for c in report["comparisons"]}
    gap = ndcg["blend"]["value"] - ndcg[paired["known"]["baseline"]]["value"]
    assert paired["known"]["difference"]["value"] == pytest.approx(gap)
    for segment, comparison in paired.items():
        values = {s["name"]: s["segments"][segment]["ndcg"]["value"] for s in report["systems"]}
        losers = {m for m in ("cf", "network") if values[m] < values[comparison["baseline"]]}
        assert losers <= {remark.split()[0] for remark in report["remarks"]}


def test_equal_seeds_give_equal_reports_files_and_policies(home: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        policy, out = tmp_path / f"{name}.toml", tmp_path / f"{name}.json"
        evaluate(home, *MODELS, "--out", str(out), "--write-policy", str(policy))
        texts.append((policy.read_text(), json.loads(out.read_text()) | {"seconds": 0}))
    assert texts[0] == texts[1]
    tuned, default = Policy.load(tmp_path / "one.toml"), Policy.load(DEFAULT_POLICY)
    report = texts[0][1]
    assert tuned.surfaces["feed"].model_weights == report["weights"]
    assert tuned.popularity_half_life_days == report["popularity_half_life_days"]
    assert tuned.surfaces["search"] == default.surfaces["search"]
    assert tuned.surfaces["feed"].sources == default.surfaces["feed"].sources


def test_nothing_of_the_test_period_bears_on_what_is_tuned(home: Path, tmp_path: Path) -> None:
    settings = Settings(models=("cf", "network"), bootstrap_samples=10)
    data = Dataset.open(home / "dataset")
    swapped = tastes_home(tmp_path, swap_tastes_from=TemporalSplit.of(data).test_start)
    one = evaluate_dataset(data, settings)
    other = evaluate_dataset(Dataset.open(swapped / "dataset"), settings)
    assert one.tuned.blend.weights == other.tuned.blend.weights
    assert one.tuned.validation_ndcg == other.tuned.validation_ndcg
    for name, calibration in one.tuned.blend.calibrations.items():
        np.testing.assert_array_equal(
            calibration.probabilities, other.tuned.blend.calibrations[name].probabilities
        )
    figures = [
        {s.name: s.segments["known"]["ndcg"].value for s in outcome.report.systems}
        for outcome in (one, other)
    ]
    assert figures[0]["cf"] > figures[1]["cf"] + 0.2, "the test itself is another"


def test_a_table_for_people_and_a_page_for_documents(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    shown = evaluate(home, *MODELS, "--out", str(page))
    assert "Blend minus" in shown
    assert "| blend |" in page.read_text()


def test_a_trained_model_carries_what_a_holdout_showed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(home))
    trained = CliRunner().invoke(app, ["train", "cf", "network", "--json"])
    assert trained.exit_code == 0, trained.output
    store = ArtifactStore(Home(home).artifacts)
    for name in ("cf", "network"):
        artifact = store.load(name)
        card = artifact.card
        assert card.trained_until == "", "what serves has learned from everything"
        assert card.metrics["ndcg_at_10"] > card.metrics["popularity_ndcg_at_10"]
        low, high = card.metrics["ndcg_at_10_interval"]
        assert low <= card.metrics["ndcg_at_10"] <= high
        fitted = loader(name)(artifact).description.calibration
        assert 2 <= len(fitted["raw_scores"]) == len(fitted["probabilities"]) <= 32
        assert (np.diff(fitted["raw_scores"]) > 0).all()
        assert (np.diff(fitted["probabilities"]) >= 0).all()
    quick = CliRunner().invoke(app, ["train", "cf", "--no-validate", "--json"])
    assert json.loads(quick.stdout)["cf"]["metrics"] == {}
    assert store.load("cf").card.calibration == {}


def test_too_little_data_is_trained_on_without_a_holdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Home(tmp_path)
    made.dataset.mkdir()
    files = {name: file.name for name, file in dataset(made.dataset).files.items()}
    (made.dataset / "dataset.json").write_text(json.dumps({"version": "s", "files": files}))
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    trained = CliRunner().invoke(app, ["train", "network"])
    assert trained.exit_code == 0, trained.output
    assert "goes without figures" in trained.output
    assert ArtifactStore(made.artifacts).load("network").card.calibration == {}


def test_a_model_that_the_data_give_nothing_is_absent(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "dataset", tmp_path / "dataset")
    manifest = tmp_path / "dataset" / "dataset.json"
    described = json.loads(manifest.read_text())
    del described["files"]["edges"]
    manifest.write_text(json.dumps(described))
    report = json.loads(evaluate(tmp_path, *MODELS, "--json"))
    assert report["absent"] == {"network": "the data set has no edges"}
    assert set(report["weights"]) == {"cf", "popular"}


def test_mistakes_are_said_before_the_work(home: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for arguments, said in (
        (["--home", str(home), "--out", "report.pdf"], "use .json or .md"),
        (["--home", str(home), "--models", "oracle"], "unknown model"),
        (["--home", str(tmp_path)], "recmesh ingest"),
    ):
        result = runner.invoke(app, ["evaluate", *arguments])
        assert result.exit_code == 1
        assert said in result.output
