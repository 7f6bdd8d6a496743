"""``recmesh retrain``: what goes live, what does not, and what a stop in between leaves."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recmesh.cli import retraining_run, retraining_switch
from recmesh.cli.main import app
from recmesh.cli.train import Job, train_one
from recmesh.cli.written_data import learning_dataset
from recmesh.models.model import TrainedModel, silent
from recmesh.offline.retraining import candidate, comparison
from recmesh.offline.retraining.run_record import only_retraining
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import ErasedUsers, id_hash
from recmesh.storage.erasure import erase_from_files
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog
from recmesh.storage.frozen_dataset import FrozenDataset
from recmesh.storage.home import Home
from tests.conformance.test_event_log import event
from tests.small_world import NOW_UNIX_S, tastes_home

EARLY = datetime.fromtimestamp(NOW_UNIX_S + 850_000, UTC)
"""Before it lie most events, after it those of all users."""
MODELS = ("cf", "network")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    home = Home(tastes_home(folder, until=EARLY))
    for name in MODELS:
        train_one(Job(name), home, Dataset.open(home.dataset), silent)
    tastes_home(folder)
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Both models live, trained on what happened early; the rest was ingested since."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def retrain(*words: str) -> Result:
    return CliRunner().invoke(app, ["retrain", *(words or MODELS)])


def report(*words: str, status: int = 0) -> dict[str, Any]:
    result = retrain(*(words or MODELS), "--json")
    assert result.exit_code == status, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    said["by_name"] = {model["name"]: model for model in said["models"]}
    return said


def live(home: Home) -> dict[str, str]:
    return {
        name: (home.artifacts / name / "live.json").read_text()
        for name in MODELS
        if (home.artifacts / name / "live.json").exists()
    }


def outcomes(said: dict[str, Any]) -> dict[str, str]:
    return {model["name"]: model["outcome"] for model in said["models"]}


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fitted: list[str] = []
    fit = candidate.fit

    def counting(name: str, *arguments: Any, **named: Any) -> TrainedModel:
        fitted.append(name)
        return fit(name, *arguments, **named)

    monkeypatch.setattr(candidate, "fit", counting)
    return fitted


def spoil_candidates(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[TrainedModel], TrainedModel], seed: int
) -> None:
    """What is trained with the seed comes out spoiled."""
    fit = candidate.fit

    def spoiling(*arguments: Any, **named: Any) -> TrainedModel:
        trained = fit(*arguments, **named)
        return spoil(trained) if named["seed"] == seed else trained

    monkeypatch.setattr(candidate, "fit", spoiling)


def upside_down(trained: TrainedModel) -> TrainedModel:
    tensors = {name: -tensor for name, tensor in trained.tensors.items()}
    return replace(trained, tensors=tensors)


def test_new_data_gives_new_live_versions_and_the_old_ones_stay(home: Home) -> None:
    before = {name: ArtifactStore(home.artifacts).live_version(name) for name in MODELS}
    said = report()
    assert outcomes(said) == {"cf": "promoted", "network": "promoted"}
    store = ArtifactStore(home.artifacts)
    for name, model in said["by_name"].items():
        assert model["live_before"] == before[name]
        assert model["candidate"] == store.live_version(name) != before[name]
        assert model["comparison"]["protocol"] == "its settings, retrained before the period"
        assert all(check["passed"] for check in model["checks"])
        card = store.load(name).card
        assert card.dataset_version == said["dataset_version"]
        assert card.newest_data == said["newest_data"]
        assert card.calibration["raw_scores"]
    (page,) = (home.retraining / "reports").glob("*.md")
    assert f"`{before['cf']}`" in page.read_text()
    assert "recmesh retrain cf --rollback" in page.read_text()
    assert said["shadow"]["requests"] > 0
    assert {file.name for file in home.retraining.iterdir()} == {"lock", "reports"}


def test_unchanged_data_is_nothing_to_do(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    report()
    promoted, fitted = live(home), count_trainings(monkeypatch)
    again = retrain()
    assert again.exit_code == 0
    assert "nothing to do" in again.output
    assert live(home) == promoted
    assert fitted == []
    assert outcomes(report("cf", "--seed", "3")) == {"cf": "promoted"}, "another seed is another"


def test_a_first_version_is_held_to_everything_but_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tastes_home(tmp_path)))
    said = report("cf")
    assert outcomes(said) == {"cf": "promoted"}
    assert said["by_name"]["cf"]["comparison"]["protocol"] == "nothing is live"
    assert said["by_name"]["cf"]["back"] == ""


@pytest.mark.parametrize("least_users", [1_000, 5])
def test_a_worse_candidate_is_refused_and_what_is_live_stays(
    home: Home, monkeypatch: pytest.MonkeyPatch, least_users: int, tmp_path: Path
) -> None:
    monkeypatch.setattr(comparison, "LEAST_USERS", least_users)
    spoil_candidates(monkeypatch, upside_down, seed=7)
    before, page = live(home), tmp_path / "nightly.md"
    refused = retrain("cf", "--seed", "7", "--report", str(page))
    assert refused.exit_code == 3, refused.output
    assert live(home) == before
    assert "the 95% interval is not wholly below 0: [-" in refused.output
    assert "✗ **refused** nDCG@10" in page.read_text()
    expected = "as it serves" if least_users == 5 else "its settings, retrained"
    assert expected in page.read_text()
    assert outcomes(report("network")) == {"network": "promoted"}, "another model goes its way"


def test_a_candidate_that_is_not_sane_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nan_weight(trained: TrainedModel) -> TrainedModel:
        if trained.card.trained_until == "":
            trained.tensors["items"][0, 0] = np.nan
        return trained

    spoil_candidates(monkeypatch, nan_weight, seed=7)
    before = live(home)
    said = report("cf", "--seed", "7", status=3)
    broken = [c["rule"] for c in said["by_name"]["cf"]["checks"] if not c["passed"]]
    assert "no weight is NaN or infinite" in broken
    assert live(home) == before


def test_a_page_that_lacks_a_model_refuses_the_candidate(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    colocated = retraining_run.shadow.__globals__["colocated_models"]

    async def silent(home: Home, versions: dict[str, str]) -> dict[str, Any]:
        clients = await colocated(home, versions)
        if set(versions) == {"cf"}:

            async def fails(*_: Any, **__: Any) -> None:
                raise retraining_run.RecMeshError("broken")

            clients["cf"].score = clients["cf"].retrieve = fails
        return clients

    monkeypatch.setitem(retraining_run.shadow.__globals__, "colocated_models", silent)
    before = live(home)
    said = report("cf", status=3)
    assert said["shadow"]["lacking"] > 0
    assert live(home) == before


class Killed(BaseException):
    """As sudden as a kill; what is on disk stays as it is."""


def stopped() -> None:
    with pytest.raises(Killed):
        retrain()


@pytest.mark.parametrize("stage", ["gate", "build", "shadow", "switch", "take_over"])
def test_stopped_between_stages_the_same_command_completes(
    home: Home, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = live(home)

    def killed(_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(retraining_run._Run, stage, killed)
        stopped()
    if stage != "take_over":
        assert live(home) == before
    fitted = count_trainings(monkeypatch)
    said = report()
    assert outcomes(said) == {"cf": "promoted", "network": "promoted"}
    assert said["resumed"] is True
    assert fitted == [], "what was trained is not trained again"
    assert said["by_name"]["cf"]["checks"]
    assert outcomes(report()) == {"cf": "unchanged", "network": "unchanged"}


def test_stopped_between_two_models(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    train_one, make_live = retraining_run._Run.trained, retraining_switch.make_live

    def no_network(run: Any, model: Any) -> Any:
        if model.name == "network":
            raise Killed
        return train_one(run, model)

    with monkeypatch.context() as patched:
        patched.setattr(retraining_run._Run, "trained", no_network)
        stopped()

    def only_cf(home: Home, model: str, *rest: str) -> None:
        if model == "network":
            raise Killed
        make_live(home, model, *rest)

    fitted = count_trainings(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(retraining_run, "make_live", only_cf)
        stopped()
    assert set(fitted) == {"network"}
    said = report()
    assert outcomes(said) == {"cf": "promoted", "network": "promoted"}
    assert set(fitted) == {"network"}


def test_stopped_and_then_other_data_begins_anew(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def killed(_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(retraining_run._Run, "gate", killed)
        stopped()
    tastes_home(tmp_path, swap_tastes_from=EARLY)
    said = report("cf", "network", status=0)
    assert said["resumed"] is False


def test_a_dry_run_is_everything_but_the_switch(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = live(home)
    dry = report("cf", "--dry-run")
    assert outcomes(dry) == {"cf": "passed"}
    assert live(home) == before
    fitted = count_trainings(monkeypatch)
    wet = report("cf")
    assert wet["by_name"]["cf"]["candidate"] == dry["by_name"]["cf"]["candidate"]
    assert outcomes(wet) == {"cf": "promoted"}
    assert fitted == []


def test_two_at_once_are_refused(home: Home) -> None:
    with only_retraining(home.retraining):
        second = retrain("cf")
    assert second.exit_code == 1
    assert "another retraining runs" in second.output
    assert "wait for it, or stop it" in second.output


def test_what_went_live_meanwhile_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    shadowing = retraining_run._Run.shadow

    def meanwhile(run: Any) -> None:
        shadowing(run)
        train_one(Job("cf", seed=9, validate=False), home, Dataset.open(home.dataset), silent)

    monkeypatch.setattr(retraining_run._Run, "shadow", meanwhile)
    said = report("cf", status=1)
    assert "went live meanwhile" in said["by_name"]["cf"]["message"]
    assert ArtifactStore(home.artifacts).load("cf").card.seed == 9


def test_a_rollback_is_not_undone_by_the_next_run(home: Home) -> None:
    before = {name: ArtifactStore(home.artifacts).live_version(name) for name in MODELS}
    report()
    back = retrain("cf", "--rollback")
    assert back.exit_code == 0, back.output
    assert ArtifactStore(home.artifacts).live_version("cf") == before["cf"]
    assert "nothing to roll back to" in retrain("cf", "--rollback").output
    said = report("cf", status=3)
    assert "rollback" in said["by_name"]["cf"]["checks"][0]["rule"]
    assert ArtifactStore(home.artifacts).live_version("cf") == before["cf"]


def test_an_erasure_ends_a_run_on_the_erased_users_data(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = retraining_run._Run.gate
    erased = ErasedUsers(b"salt", frozenset([id_hash(b"salt", "u03")]))

    def erasing(run: Any) -> None:
        gate(run)
        erase_from_files(home, erased)

    before = live(home)
    with monkeypatch.context() as patched:
        patched.setattr(retraining_run._Run, "gate", erasing)
        ended = retrain()
    assert ended.exit_code == 1
    assert "a user was erased from the data meanwhile" in ended.output
    assert live(home) == before
    said = report()
    assert said["resumed"] is False
    assert "u03" not in Dataset.open(home.dataset).users["user_id"].to_pylist()
    assert "u03" not in ArtifactStore(home.artifacts).load("network").strings["user_ids"]


def test_ingestion_meanwhile_changes_nothing_of_a_run(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train = retraining_run._Run.train
    version = Dataset.open(home.dataset).version

    def ingesting(run: Any) -> None:
        tastes_home(tmp_path, swap_tastes_from=EARLY)
        train(run)

    monkeypatch.setattr(retraining_run._Run, "train", ingesting)
    said = report("cf")
    assert said["dataset_version"] == version != Dataset.open(home.dataset).version
    assert ArtifactStore(home.artifacts).load("cf").card.dataset_version == version


def test_what_makes_no_sense_is_said(home: Home) -> None:
    assert "known: cf" in retrain("fc").output
    assert "--rollback takes the models" in retrain("--rollback").output


def record(home: Home, *users: str) -> None:
    """Clicks of today on the first item."""
    database = Database.for_writing("", home.database)
    now_ms = int(1000 * time.time())
    events = [event(f"click-of-{user}", user_id=user, item_id="a0") for user in users]
    EventLog(database).write(events, now_ms)
    database.close()


def test_what_was_recorded_since_is_learned_from(home: Home) -> None:
    before = report()
    record(home, "d0", "d1")
    said = report()
    assert said["dataset_version"] == before["dataset_version"] + "+e2"
    assert said["rows"]["events"] == before["rows"]["events"] + 2
    assert set(outcomes(said).values()) == {"promoted"}
    assert set(outcomes(report()).values()) == {"unchanged"}
    record(home, "d2")
    assert report()["dataset_version"] == before["dataset_version"] + "+e3"


def test_who_is_known_by_recorded_events_alone_can_be_erased_from_a_run(home: Home) -> None:
    record(home, "visitor")
    frozen = FrozenDataset(home.retraining_data)
    frozen.hold(learning_dataset(home))
    frozen.erase(ErasedUsers(b"salt", frozenset({id_hash(b"salt", "somebody")})))
    frozen.check()
    frozen.erase(ErasedUsers(b"salt", frozenset({id_hash(b"salt", "visitor")})))
    with pytest.raises(UnavailableError, match="erased"):
        frozen.check()
