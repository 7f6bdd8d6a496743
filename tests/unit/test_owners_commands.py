"""Owners' commands where no mesh runs: files, registry, history, and who is cut off half-way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.deploy_model import deploy_model, roll_back_model
from recmesh.deployments.deployed_models import DeployedModels, OwnReplicas
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.deployments.remove_model import remove_model
from recmesh.deployments.scale_model import scale_model
from recmesh.storage.artifacts import ArtifactStore, ModelCard
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.home import Home
from recmesh.storage.model_registry import ModelRegistry
from recmesh.storage.model_version import ModelChange

PACKAGED = Path(__file__).parents[2] / "deployments" / "mesh.toml"


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    return Home(tmp_path)


def publish(home: Home, seed: int, name: str = "cf", *, live: bool = False) -> str:
    card = ModelCard(name, "somebody", "summary", "data", "", seed)
    return ArtifactStore(home.artifacts).publish(card, {}, {"item_ids": ["i1"]}, live=live)


def owners(home: Home, by: str = "ann", file: Path = PACKAGED) -> OwnersMesh:
    return OwnersMesh(home, None, file, by, lambda *_: None)


def history(home: Home, name: str = "cf") -> list[ModelChange]:
    registry = ModelRegistry.open("", home.model_registry)
    try:
        return registry.history(name)
    finally:
        registry.close()


def states(home: Home) -> tuple[str, str, dict[str, str]]:
    """What is live, what is deployed, and the stages."""
    registry = ModelRegistry.open("", home.model_registry)
    try:
        stages = {one.version: str(one.stage) for one in registry.versions("cf")}
    finally:
        registry.close()
    deployed = DeployedModels(home.deployed).get("cf")
    live = ArtifactStore(home.artifacts).live_version("cf")
    return live, deployed.version if deployed else "", stages


def test_a_deployment_is_live_recorded_and_in_the_history(home: Home) -> None:
    first, second = publish(home, 1, live=True), publish(home, 2)
    made = deploy_model(owners(home), "cf", second[:6])
    assert (made.version, made.before, made.changed, made.serves) == (second, first, True, False)
    assert states(home) == (second, second, {first: "retired", second: "live"})
    last = history(home)[-1]
    assert (last.by, last.did, last.version) == ("ann", "deployed", second)
    deployed = DeployedModels(home.deployed).get("cf")
    assert deployed is not None
    assert (deployed.by, deployed.replicas) == ("ann", OwnReplicas())


def test_twice_is_once(home: Home) -> None:
    publish(home, 1, live=True)
    deploy_model(owners(home), "cf")
    before = history(home)
    assert not deploy_model(owners(home, by="bob"), "cf").changed
    assert history(home) == before


def cut(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, *, after: bool) -> None:
    """Has the process end before or after a step."""
    step: Callable[..., Any] = getattr(owner, method)

    def ending(*arguments: Any, **named: Any) -> None:
        if after:
            step(*arguments, **named)
        raise Killed

    monkeypatch.setattr(owner, method, ending)


STEPS = [
    (OwnersMesh, "resolved"),
    (ArtifactStore, "make_live"),
    (OwnersMesh, "written"),
    (OwnersMesh, "record"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "method"), STEPS)
def test_killed_at_any_step_one_version_is_live_and_deploying_again_does_the_rest(
    home: Home, owner: type, method: str, after: bool
) -> None:
    first, second = publish(home, 1, live=True), publish(home, 2)
    deploy_model(owners(home), "cf")
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut(monkeypatch, owner, method, after=after)
        with pytest.raises(Killed):
            deploy_model(owners(home), "cf", second)
    assert states(home)[0] in (first, second)
    # Another owner's command comes between.
    publish(home, 1, "network", live=True)
    deploy_model(owners(home), "network")
    live, _, stages = states(home)
    assert [version for version, stage in stages.items() if stage == "live"] == [live]

    deploy_model(owners(home), "cf", second)
    assert states(home) == (second, second, {first: "retired", second: "live"})


ROLLBACK_STEPS = [(ArtifactStore, "go_back_to"), (OwnersMesh, "written"), (OwnersMesh, "record")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "method"), ROLLBACK_STEPS)
def test_a_rollback_killed_at_any_step_leaves_one_version_live(
    home: Home, owner: type, method: str, after: bool
) -> None:
    first, second = publish(home, 1, live=True), publish(home, 2)
    deploy_model(owners(home), "cf", second)
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut(monkeypatch, owner, method, after=after)
        with pytest.raises(Killed):
            roll_back_model(owners(home), "cf")
    deploy_model(owners(home), "cf", first)
    assert states(home) == (first, first, {first: "live", second: "retired"})


def test_a_rollback_goes_back_once(home: Home) -> None:
    first, second = publish(home, 1, live=True), publish(home, 2)
    deploy_model(owners(home), "cf", second)
    assert roll_back_model(owners(home, by="bob"), "cf").version == first
    assert states(home) == (first, first, {first: "live", second: "retired"})
    last = history(home)[-1]
    assert (last.by, last.did, last.detail) == ("bob", "rolled back", f"from {second}")
    with pytest.raises(NotFoundError, match="nothing to roll back to"):
        roll_back_model(owners(home), "cf")


def test_what_is_scaled_stays_so_when_another_version_is_deployed(home: Home) -> None:
    publish(home, 1, live=True)
    second = publish(home, 2)
    assert scale_model(owners(home), "cf", 2, 5).changed
    assert not scale_model(owners(home), "cf", 2, 5).changed
    deploy_model(owners(home), "cf", second)
    deployed = DeployedModels(home.deployed).get("cf")
    assert deployed is not None
    assert deployed.replicas == OwnReplicas(min_replicas=2, max_replicas=5)
    assert [change.did for change in history(home)].count("scaled") == 1


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(3, None, (3, 4)), (None, 1, (1, 1)), (6, None, (6, 6)), (None, 9, (2, 9))],
)
def test_one_bound_moves_the_other_only_where_they_would_cross(
    home: Home, least: int | None, most: int | None, expected: tuple[int, int]
) -> None:
    publish(home, 1, live=True)
    scale_model(owners(home), "cf", 2, 4)
    made = scale_model(owners(home), "cf", least, most)
    assert (made.min_replicas, made.max_replicas) == expected


def test_the_meshs_configuration_wins_and_says_so(home: Home, tmp_path: Path) -> None:
    first, second = publish(home, 1, live=True), publish(home, 2)
    file = tmp_path / "mesh.toml"
    file.write_text(f'[models.cf]\nmax_replicas = 2\nversion = "{first}"\n')
    mesh = owners(home, file=file)
    with pytest.raises(ConfigurationError, match="has max_replicas 2 for cf, which wins over 3"):
        scale_model(mesh, "cf", 1, 3)
    with pytest.raises(ConfigurationError, match=f"pins cf at version {first}"):
        deploy_model(mesh, "cf", second)
    assert DeployedModels(home.deployed).get("cf") is None
    file.write_text('[models.cf]\nplacement = "orchestrator"\n')
    with pytest.raises(ConfigurationError, match="no replicas of its own"):
        deploy_model(mesh, "cf")


def test_what_goes_live_with_an_embedding_space_is_not_deployed_alone(home: Home) -> None:
    publish(home, 1, "nlp", live=True)
    other = publish(home, 2, "nlp")
    with pytest.raises(ConfigurationError, match="recmesh embed switch"):
        deploy_model(owners(home), "nlp", other)


def test_a_removed_model_keeps_artifacts_and_history(home: Home) -> None:
    version = publish(home, 1, live=True)
    deploy_model(owners(home), "cf")
    made = remove_model(owners(home), "cf")
    assert (made.changed, made.named) == (True, True)
    assert not remove_model(owners(home), "cf").changed
    assert states(home) == (version, "", {version: "live"})
    assert [change.did for change in history(home)][-1] == "removed"


def test_owners_of_two_models_deploy_and_scale_at_once(home: Home) -> None:
    for name in ("cf", "network", "behavioral"):
        publish(home, 1, name, live=True)
    failed: list[Exception] = []
    together = threading.Barrier(3)

    def owner(name: str) -> None:
        together.wait()
        try:
            for number in range(1, 4):
                deploy_model(owners(home, by=name), name)
                scale_model(owners(home, by=name), name, number, 5)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    threads = [threading.Thread(target=owner, args=(n,)) for n in ("cf", "network", "behavioral")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for name, deployed in DeployedModels(home.deployed).all().items():
        assert (deployed.by, deployed.replicas.min_replicas) == (name, 3)
        assert {change.by for change in history(home, name)} == {"", name}


def recmesh(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["model", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_folder_of_files_is_deployed_and_left_alone_the_second_time(
    home: Home, tmp_path: Path
) -> None:
    for name in ("cf", "network"):
        publish(home, 1, name, live=True)
    folder = tmp_path / "gitops"
    folder.mkdir()
    (folder / "cf.toml").write_text('name = "cf"\n[replicas]\nmax_replicas = 4\n')
    (folder / "dreams.toml").write_text('name = "dreams"\n')
    (folder / "network.toml").write_text('name = "network"\n')
    status, out, err = recmesh("deploy", "--from", str(folder), "--json")
    # One that fails keeps no other from being deployed.
    assert status == 1
    assert "dreams.toml: unknown model 'dreams'" in err
    assert [(one["model"], one["changed"]) for one in json.loads(out)["deployed"]] == [
        ("cf", True),
        ("network", True),
    ]
    (folder / "dreams.toml").unlink()
    status, out, _ = recmesh("deploy", "--from", str(folder), "--json")
    assert status == 0
    assert [one["changed"] for one in json.loads(out)["deployed"]] == [False, False]
    # A file that no longer says it goes back to what the model declares.
    (folder / "cf.toml").write_text('name = "cf"\n')
    status, out, _ = recmesh("deploy", str(folder / "cf.toml"), "--json")
    assert json.loads(out)["changed"]
    deployed = DeployedModels(home.deployed).get("cf")
    assert deployed is not None
    assert deployed.replicas == OwnReplicas()


def test_the_commands_tell_what_was_done(home: Home) -> None:
    first, second = publish(home, 1, live=True), publish(home, 2)
    assert recmesh("deploy", "cf", "--version", second, "--by", "ann")[0] == 0
    listed = json.loads(recmesh("list", "--json")[1])
    assert {one["version"]: one["stage"] for one in listed} == {first: "retired", second: "live"}
    assert listed[0]["owner"] != "somebody"
    only = json.loads(recmesh("list", "--stage", "live", "--json")[1])
    assert [one["version"] for one in only] == [second]
    assert json.loads(recmesh("history", "cf", "--json")[1])[-1]["by"] == "ann"
    assert json.loads(recmesh("card", f"cf@{first[:8]}", "--json")[1])["card"]["seed"] == 1
    assert json.loads(recmesh("card", "cf", "--json")[1])["version"] == second
    told = json.loads(recmesh("status", "cf", "--json")[1])
    assert (told["state"], told["stages"], told["deployed_by"]) == (
        "no mesh",
        {"live": second},
        "ann",
    )
    for command in ("list", "history", "card", "status"):
        status, out, _ = recmesh(command, *([] if command in ("list", "status") else ["cf"]))
        assert status == 0
        assert "cf" in out or "deployed" in out


def test_a_source_is_removed_only_when_one_insists(home: Home) -> None:
    publish(home, 1, live=True)
    deploy_model(owners(home), "cf")
    status, _, err = recmesh("remove", "cf")
    assert status == 1
    assert "--yes" in err
    assert recmesh("remove", "cf", "--yes")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy"], "say a model, a file, or a folder"),
        (["deploy", "dreams"], "unknown model 'dreams'"),
        (["deploy", "cf", "--version", "1"], "no version '1'"),
        (["deploy", "x.toml", "--version", "1"], "--version goes with a model's name"),
        (["deploy", "x.toml"], "cannot read x.toml"),
        (["scale", "cf"], "say --min, --max or both"),
        (["scale", "cf", "--min", "3", "--max", "1"], "--min 3 is above --max 1"),
        (["rollback", "cf"], "has no artifact"),
        (["logs", "cf"], "no mesh runs here"),
        (["history", "dreams"], "nothing was ever done"),
        (["card", "cf"], "no live version"),
        (["status", "dreams"], "unknown model"),
    ],
)
def test_what_cannot_be_done_says_why(home: Home, arguments: list[str], said: str) -> None:
    status, _, err = recmesh(*arguments)
    assert status == 1
    assert said in err
