"""``recmesh up --secure``: commands find their credentials, replicas answer nobody else."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import create_default_context

import grpc
import pytest

from recmesh.deployments.development_credentials import DevelopmentCredentials, Pair
from recmesh.deployments.mesh_config import DEFAULT_CONFIG
from recmesh.storage.milvus_process import free_port
from recmesh.v1 import model_pb2, model_pb2_grpc
from tests.mesh.conftest import RunningMesh
from tests.small_world import ingested_home, train

pytestmark = [pytest.mark.mesh, pytest.mark.slow]

RECOMMEND = "/recmesh.v1.RecommendationService/Recommend"
POLICY = Path(__file__).parents[2] / "orchestrator" / "policies" / "default.toml"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    collector = f"http://127.0.0.1:{free_port()}"
    running = RunningMesh(ingested_home(tmp_path_factory.mktemp("secure")), collector)
    running.policy.write_text(POLICY.read_text())
    train(running.home, "cf")
    config = running.home.root / "mesh.toml"
    config.write_text(DEFAULT_CONFIG.read_text())
    running.recmesh("up", "--secure", "--detach", "--config", str(config))
    yield running
    running.recmesh("down")
    assert not (running.home.run / "mesh-token").exists()


def test_commands_and_curl_are_answered_and_strangers_are_not(secure: RunningMesh) -> None:
    page = json.loads(secure.recmesh("call", "reader", "--json", "--timeout-s", "5").stdout)
    assert page["recommendations"]
    assert "cf" in page["versions"]["models"]
    refused = secure.recmesh("call", "reader", "--caller", "nobody", check=False)
    assert "there are operator" in refused.stderr
    token = secure.recmesh("edge", "token", "operator").stdout.strip()
    trusted = create_default_context(cafile=secure.home.credentials / "authority.pem")
    request = urllib.request.Request(
        f"https://{secure.address}{RECOMMEND}",
        b'{"surface": "feed", "user_id": "reader"}',
        {"authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
        assert json.loads(answer.read())["recommendations"]


def test_a_trace_leads_through_every_part_and_names_nobody(secure: RunningMesh) -> None:
    said = secure.recmesh("trace", "reader", "--json").stdout
    services = {span["service"] for span in json.loads(said)}
    assert services == {"caller", "recmesh-edge", "recmesh-orchestrator", "recmesh-cf"}
    assert "reader" not in said


def test_ray_answers_nobody_without_its_own_certificate(secure: RunningMesh) -> None:
    made = DevelopmentCredentials(secure.home.credentials)
    token = (secure.home.run / "ray-token").read_text()

    def asked(pair: Pair | None) -> grpc.StatusCode:
        address = secure.record["ray_address"]
        with _to_ray(address, made.ray, pair) as channel:
            alive = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
            try:
                alive(b"", timeout=10, metadata=[("authorization", f"Bearer {token}")])
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    assert asked(made.ray) is grpc.StatusCode.OK
    assert asked(made.caller("operator")) is grpc.StatusCode.UNAVAILABLE
    assert asked(None) is grpc.StatusCode.UNAVAILABLE


def _to_ray(address: str, server: Pair, client: Pair | None) -> grpc.Channel:
    if client is None:
        return grpc.insecure_channel(address)
    files = (server.certificate, client.key, client.certificate)
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    return grpc.secure_channel(address, credentials)


def test_replicas_answer_nobody_past_the_edge_and_redeployed_ones_neither(
    secure: RunningMesh,
) -> None:
    secure.recmesh("model", "deploy", "cf")
    with (secure.home.root / "mesh.toml").open("a") as file:
        file.write('[callers.late]\nmethods = ["RecommendationService"]\nsurfaces = ["feed"]\n')
    secure.recmesh("up")
    end_s = time.monotonic() + 20
    while secure.recmesh("call", "reader", "--caller", "late", check=False).returncode:
        assert time.monotonic() < end_s
        time.sleep(0.2)
    refused = secure.recmesh(
        "call", "reader", "--caller", "late", "--surface", "swipe", check=False
    )
    assert "was not given the surface 'swipe'" in refused.stderr
    for name, state in secure.status().items():
        for replica in state["replicas"]:
            with grpc.insecure_channel(replica["address"]) as channel:
                stub = model_pb2_grpc.ModelServiceStub(channel)
                with pytest.raises(grpc.RpcError) as caught:
                    stub.Describe(model_pb2.DescribeRequest(), timeout=5)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
    page = json.loads(secure.recmesh("call", "reader", "--json", "--timeout-s", "5").stdout)
    assert "cf" in page["versions"]["models"]
    assert "reader" not in (secure.home.run / "edge-access.log").read_text()
