"""A model in another language: ``examples/node-model``, asked by the mesh at its address."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import tomli_w
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.errors import InvalidRequestError, UnsupportedError
from recmesh.storage.home import Home
from recmesh.storage.ingest import ingest
from recmesh.v1 import common_pb2, model_pb2, recommendation_pb2, recommendation_pb2_grpc
from tests.node_model import ENDS_S, EXAMPLE, NAME, installed_node, node_model
from tests.small_world import NOW_UNIX_S, write_table

SPECIALTIES = ("cardiology", "oncology")


@pytest.fixture(scope="module")
def node() -> str:
    return installed_node()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Cardiologists read the c items, oncologists the o items; two of each have read nothing."""
    source = tmp_path_factory.mktemp("source")
    made = Home(tmp_path_factory.mktemp("home"))
    items = [f"{specialty[0]}{n}" for specialty in SPECIALTIES for n in range(8)]
    users = [{"user_id": f"d{n}", "specialties": [SPECIALTIES[n % 2]]} for n in range(40)]
    start = datetime.fromtimestamp(NOW_UNIX_S, UTC)
    events = [
        {
            "event_id": f"{n}-{item}",
            "user_id": f"d{n}",
            "item_id": f"{SPECIALTIES[n % 2][0]}{item}",
            "event_type": "click",
            "time": start + timedelta(hours=n, minutes=item),
        }
        for n in range(36)
        for item in range(8)
        if item <= n % 8
    ]
    write_table(source, "items", [{"item_id": i, "content_type": "c", "title": i} for i in items])
    write_table(source, "users", users)
    write_table(source, "events", events)
    ingest(source, made.dataset)
    return made


@pytest.fixture(scope="module")
def model(node: str, home: Home) -> Iterator[dict[str, Any]]:
    with node_model(node, home.dataset) as serving:
        yield serving


@pytest.fixture
async def client(model: dict[str, Any]) -> AsyncIterator[GrpcModelClient]:
    made = GrpcModelClient(NAME, [model["address"]], pinned=True)
    yield made
    await made.close()


def doctor(specialty: str, *history: str) -> common_pb2.UserFeatures:
    return common_pb2.UserFeatures(
        user_id="somebody",
        specialties=[specialty],
        history_item_ids=history,
        history_event_types=[common_pb2.EVENT_TYPE_CLICK] * len(history),
        history_times_unix_s=[NOW_UNIX_S] * len(history),
    )


async def test_it_says_what_it_is(client: GrpcModelClient, model: dict[str, Any]) -> None:
    said = await client.describe(timeout_s=5)
    assert (said.name, said.version) == (NAME, model["version"])
    assert list(said.capabilities) == [model_pb2.CAPABILITY_RETRIEVE, model_pb2.CAPABILITY_SCORE]


async def test_what_it_retrieves_it_scores_alike(client: GrpcModelClient) -> None:
    user = doctor("cardiology", "c0")
    found = await client.retrieve(model_pb2.RetrieveRequest(user=user, limit=4), timeout_s=5)
    assert list(found.item_ids) == ["c1", "c2", "c3", "c4"]
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores[0] > found.scores[-1]
    scored = await client.score(
        model_pb2.ScoreRequest(user=user, item_ids=found.item_ids), timeout_s=5
    )
    assert list(scored.scores) == list(found.scores)
    assert not scored.missing


async def test_a_missing_opinion_is_said(client: GrpcModelClient) -> None:
    scored = await client.score(
        model_pb2.ScoreRequest(user=doctor("oncology"), item_ids=["o1", "unread", "c1"]),
        timeout_s=5,
    )
    assert list(scored.missing) == [1]
    assert scored.scores[0] > scored.scores[2]
    nobody = await client.score(
        model_pb2.ScoreRequest(user=doctor("astrology"), item_ids=["o1", "c1"]), timeout_s=5
    )
    assert list(nobody.missing) == [0, 1]


async def test_what_it_cannot_do_it_says(client: GrpcModelClient) -> None:
    with pytest.raises(UnsupportedError):
        await client.embed(
            model_pb2.EmbedRequest(texts=model_pb2.TextBatch(texts=["t"])), timeout_s=5
        )
    with pytest.raises(InvalidRequestError):
        await client.score(model_pb2.ScoreRequest(item_ids=["o1"]), timeout_s=5)


async def test_its_health_answers(model: dict[str, Any]) -> None:
    async with grpc.aio.insecure_channel(model["address"]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "recmesh.v1.ModelService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_checks_of_models_find_nothing_to_mend(
    model: dict[str, Any], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    # How fast it is says nothing on a machine that runs tests.
    words = ["model", "check", model["address"], "--json", "--skip", "latency"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = {one["check"]: one["status"] for one in json.loads(done.stdout)["checks"]}
    assert "FAILED" not in found.values()
    seen = ("contract", "determinism", "ordering", "batch-independence", "unknown", "cancellation")
    assert {found[check] for check in seen} == {"PASSED"}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The default one, in which the feed asks the model too."""
    values = tomllib.loads(DEFAULT_POLICY.read_text())
    # A busy machine is not what this is about.
    values["defaults"] |= {"source_timeout_s": 5.0, "deadline_s": 10.0}
    feed = values["surfaces"]["feed"]
    feed["sources"].append(NAME)
    feed["model_weights"][NAME] = 0.5
    file = tmp_path / "policy.toml"
    file.write_text(tomli_w.dumps(values))
    return file


async def test_a_page_of_the_mesh_shows_its_items_and_says_so(
    home: Home, policy: Path, model: dict[str, Any]
) -> None:
    place = {"addresses": [model["address"]], "tls": None}
    request = recommendation_pb2.RecommendRequest(
        surface="feed", user_id="d38", page_size=8, explain=True
    )
    async with (
        local_mesh(home, policy, "127.0.0.1:0", external={NAME: place}) as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        assert NAME in mesh.models
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        page = await stub.Recommend(request)
        (status,) = (source for source in page.sources if source.name == NAME)
        assert status.state == common_pb2.SOURCE_STATE_OK
        assert status.version == model["version"]
        shown = [(slot.item_id, NAME in slot.sources) for slot in page.recommendations]
        assert shown[0] == ("c0", True)
        assert {item for item, is_its in shown if is_its} >= {"c0", "c1", "c2", "c3"}
        # Told to end, it says NOT_SERVING first: the page does without it.
        model["process"].terminate()
        assert model["process"].wait(ENDS_S) == 0
        page = await stub.Recommend(request)
        (status,) = (source for source in page.sources if source.name == NAME)
        assert status.state == common_pb2.SOURCE_STATE_UNAVAILABLE
        assert page.degraded
        assert page.recommendations


def test_its_own_tests_pass(node: str) -> None:
    done = subprocess.run(
        [node, "--test"], cwd=EXAMPLE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
