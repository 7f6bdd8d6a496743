"""What the steward does in a round, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recmesh.deployments import steward as module
from recmesh.deployments.address_book import Announcement, Role
from recmesh.deployments.applications import RUNNING, ApplicationState
from recmesh.deployments.deploy_model import Deployment
from recmesh.deployments.deployed_models import OwnReplicas
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.model_app import application_of
from recmesh.deployments.owners_mesh import OwnersMesh
from recmesh.deployments.steward import RETRY_S, Steward
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home
from tests.small_world import ingested_home, train

MODEL = "cf"


class Cluster:
    """What Serve would say, and what was deployed into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, ApplicationState] = {}
        self.deployed: list[tuple[str, str, OwnReplicas | None]] = []
        self.fails = False
        self.now_s = 0.0
        monkeypatch.setattr(module, "state_of", self.states.get)
        monkeypatch.setattr(module, "deploy_model", self.deploy)

    def deploy(
        self, mesh: OwnersMesh, name: str, version: str, replicas: OwnReplicas | None
    ) -> Deployment:
        self.deployed.append((name, version, replicas))
        if self.fails:
            raise UnavailableError(f"{name} does not come up: no reason")
        if replicas is not None:
            mesh.written(name, version, replicas)
        table = mesh.table(name, replicas or OwnReplicas())
        self.run(name, mesh.run(name, table, version).build, version)
        return Deployment(name, version, "", changed=True, serves=True)

    def run(self, name: str, build: str, version: str) -> None:
        one = Announcement(Role.MODEL, name, "r1", "127.0.0.1:1", version, build)
        application = application_of(name)
        self.states[application] = ApplicationState(name, application, RUNNING, "", 1, [one])

    def change(self, **values: Any) -> None:
        application = application_of(MODEL)
        self.states[application] = replace(self.states[application], **values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = ingested_home(tmp_path_factory.mktemp("home"))
    train(home, MODEL)
    return home


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


@pytest.fixture
def owners(tmp_path: Path) -> Path:
    folder = tmp_path / "owners"
    folder.mkdir()
    return folder


@pytest.fixture
def steward(trained: Home, cluster: Cluster, owners: Path, tmp_path: Path) -> Any:
    file = tmp_path / "mesh.toml"
    file.write_text(f'[ray]\naddress = "auto"\n[models.{MODEL}]\n[models.nlp]\n')
    for left in (trained.deployed / f"{MODEL}.toml",):
        left.unlink(missing_ok=True)
    made = Steward(trained, file, owners, lambda: cluster.now_s)
    yield made
    made.close()


def test_a_model_that_does_not_run_is_deployed_once(steward: Steward, cluster: Cluster) -> None:
    assert steward.round() == [MODEL]
    assert steward.round() == []
    # nlp was never trained: nobody can run it.
    assert [name for name, _, _ in cluster.deployed] == [MODEL]


def test_an_owners_file_is_followed(steward: Steward, cluster: Cluster, owners: Path) -> None:
    steward.round()
    (owners / f"{MODEL}.toml").write_text(f'name = "{MODEL}"\n[replicas]\nmax_replicas = 7\n')
    assert steward.round() == []  # once more, before running replicas are touched
    assert steward.round() == [MODEL]
    assert cluster.deployed[-1][2] == OwnReplicas(max_replicas=7)
    assert steward.round() == []


@pytest.mark.parametrize(
    "text", ['name = "nlp"\n', "name = 3\n", f'name = "{MODEL}"\nmin_replicas = 2\n', "not toml"]
)
def test_a_file_that_is_another_models_or_wrong_changes_nothing(
    steward: Steward, cluster: Cluster, owners: Path, text: str
) -> None:
    steward.round()
    (owners / f"{MODEL}.toml").write_text(text)
    assert [steward.round() for _ in range(3)] == [[], [], []]
    assert len(cluster.deployed) == 1


def test_replicas_that_are_not_heard_of_for_a_moment_stay(
    steward: Steward, cluster: Cluster
) -> None:
    steward.round()
    heard = cluster.states[application_of(MODEL)].replicas
    cluster.change(replicas=[])
    assert steward.round() == []
    cluster.change(replicas=heard)
    assert steward.round() == []
    assert len(cluster.deployed) == 1


def test_what_serve_is_at_is_left_to_it(steward: Steward, cluster: Cluster) -> None:
    steward.round()
    cluster.change(state="DEPLOYING", replicas=[])
    assert [steward.round() for _ in range(3)] == [[], [], []]


def test_what_failed_waits_until_it_is_wanted_otherwise_or_for_long(
    steward: Steward, cluster: Cluster, owners: Path
) -> None:
    cluster.fails = True
    for _ in range(3):
        steward.round()
    assert len(cluster.deployed) == 1
    (owners / f"{MODEL}.toml").write_text(f'name = "{MODEL}"\n[replicas]\nmax_replicas = 3\n')
    steward.round()
    assert len(cluster.deployed) == 2
    cluster.now_s += RETRY_S
    steward.round()
    assert len(cluster.deployed) == 3


def test_one_steward_at_a_time_records_the_mesh(
    steward: Steward, trained: Home, cluster: Cluster, tmp_path: Path
) -> None:
    steward.round()
    record = running_mesh(trained)
    assert record is not None
    assert record.ray_address == "auto"
    other = Steward(trained, tmp_path / "mesh.toml", None)
    other.round()  # in the cluster that replaces this one
    steward.close()
    assert running_mesh(trained) is None
    other.round()
    assert running_mesh(trained) is not None
    other.close()
