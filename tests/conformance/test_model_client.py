"""One suite over every way to reach a model."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from ray import cloudpickle, serve

from recmesh.deployments.applications import deploy, remove
from recmesh.deployments.client_tls import ClientTls
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.deployments.model_app import ModelReplica
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.deployments.replica_scaling import deployment_options
from recmesh.models.model import Capability, Context, Description, Float32, Model, Retrieved
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.errors import (
    DeadlineError,
    InvalidRequestError,
    RecMeshError,
    UnavailableError,
    UnsupportedError,
)
from recmesh.storage.home import Home
from recmesh.v1 import common_pb2, model_pb2
from tests.tls_certificates import Authority

NOW_UNIX_S = 1_700_000_000


class LengthModel(Model):
    """Likes long ids; has no opinion on "?"; misbehaves for users named so."""

    description = Description(
        name="length",
        version="v1",
        capabilities=frozenset({Capability.RETRIEVE, Capability.SCORE}),
        owner="tests",
        calibration={"raw_scores": [0.0, 10.0], "probabilities": [0.0, 1.0]},
    )

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        if context.user.user_id == "nan":
            return Retrieved(["x"], np.array([np.nan], np.float32))
        ids = ["x" * n for n in range(5, 0, -1)][:limit]
        return Retrieved(ids, self.score(context, ids))

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        if context.user.user_id == "slow":
            time.sleep(0.5)
        if context.user.user_id == "broken":
            raise ZeroDivisionError("secret text")
        return np.array([np.nan if i == "?" else len(i) for i in item_ids], np.float32)


@pytest.fixture
async def server() -> AsyncIterator[tuple[GrpcServer, str]]:
    running = model_server(ModelMethods(LengthModel()))
    port = await running.start("127.0.0.1:0")
    yield running, f"127.0.0.1:{port}"
    await running.stop(0)


class LengthReplica(ModelReplica):
    """A replica of Ray Serve whose model is not an artifact."""

    @staticmethod
    def load(model_name: str, home: Home, version: str) -> Model:
        return LengthModel()


@pytest.fixture(scope="module")
def application(cluster: None) -> Iterator[list[str]]:
    """Addresses that the one replica of a Serve application announces."""
    # Workers cannot import this module.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    deployment = serve.deployment(LengthReplica).options(
        name="length",
        **deployment_options((), min_replicas=1, max_replicas=1, num_cpus=0.1, target_inflight=1),
    )
    target = serve.RunTarget(
        deployment.bind("length", "", "", "127.0.0.1"), name="model-length", route_prefix=None
    )
    (state,) = deploy([target], 60, lambda _: None)
    assert state.state == "RUNNING", state.message
    yield [replica.address for replica in state.replicas]
    remove("length")


@pytest.fixture(
    params=["in-process", "external", "mutual-tls", pytest.param("serve", marks=pytest.mark.mesh)]
)
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ModelClient]:
    running = None
    if request.param == "in-process":
        made: ModelClient = InProcessModelClient(LengthModel())
    elif request.param == "serve":
        made = GrpcModelClient("length", request.getfixturevalue("application"))
    else:
        credentials, tls = None, None
        if request.param == "mutual-tls":
            credentials, tls = mutual_tls(tmp_path)
        running = model_server(ModelMethods(LengthModel()))
        port = await running.start("127.0.0.1:0", credentials)
        made = GrpcModelClient("length", [f"127.0.0.1:{port}"], pinned=True, tls=tls)
    yield made
    await made.close()
    if running is not None:
        await running.stop(0)


def mutual_tls(folder: Path) -> tuple[grpc.ServerCredentials, ClientTls]:
    """A server that wants to know its callers, and a caller that it knows."""
    authority = Authority(folder)
    server, caller = authority.pair("model.example"), authority.pair("orchestrator")
    credentials = grpc.ssl_server_credentials(
        [(server.key.read_bytes(), server.certificate.read_bytes())],
        authority.file.read_bytes(),
        require_client_auth=True,
    )
    return credentials, ClientTls(
        authority=str(authority.file),
        certificate=str(caller.certificate),
        key=str(caller.key),
        server_name="model.example",
    )


def asked(*item_ids: str, user_id: str = "u") -> model_pb2.ScoreRequest:
    return model_pb2.ScoreRequest(
        user=common_pb2.UserFeatures(user_id=user_id), item_ids=item_ids, now_unix_s=NOW_UNIX_S
    )


def wanted(limit: int, user_id: str = "u") -> model_pb2.RetrieveRequest:
    return model_pb2.RetrieveRequest(user=common_pb2.UserFeatures(user_id=user_id), limit=limit)


async def test_it_says_what_it_is(client: ModelClient) -> None:
    said = await client.describe(timeout_s=1)
    assert (said.name, said.version, said.owner) == ("length", "v1", "tests")
    assert list(said.capabilities) == [model_pb2.CAPABILITY_RETRIEVE, model_pb2.CAPABILITY_SCORE]
    assert list(said.calibration.probabilities) == [0.0, 1.0]
    assert client.name == "length"


async def test_it_retrieves_best_first_up_to_the_limit(client: ModelClient) -> None:
    found = await client.retrieve(wanted(3), timeout_s=1)
    assert list(found.item_ids) == ["xxxxx", "xxxx", "xxx"]
    assert list(found.scores) == [5, 4, 3]
    assert found.version == "v1"


async def test_a_missing_opinion_is_said(client: ModelClient) -> None:
    scored = await client.score(asked("a", "?", "abc"), timeout_s=1)
    assert list(scored.missing) == [1]
    assert [scored.scores[0], scored.scores[2]] == [1, 3]


async def test_no_items_is_no_scores(client: ModelClient) -> None:
    assert list((await client.score(asked(), timeout_s=1)).scores) == []


async def test_a_call_it_does_not_offer_is_unsupported(client: ModelClient) -> None:
    with pytest.raises(UnsupportedError):
        await client.embed(
            model_pb2.EmbedRequest(texts=model_pb2.TextBatch(texts=["t"])), timeout_s=1
        )


async def test_a_slow_model_ends_with_the_deadline(client: ModelClient) -> None:
    started_s = time.monotonic()
    with pytest.raises(DeadlineError):
        await client.score(asked("a", user_id="slow"), timeout_s=0.05)
    assert time.monotonic() - started_s < 0.4


async def test_a_defect_in_the_model_keeps_its_text_to_itself(client: ModelClient) -> None:
    with pytest.raises(RecMeshError) as raised:
        await client.score(asked("a", user_id="broken"), timeout_s=1)
    assert "secret" not in str(raised.value)
    assert not isinstance(raised.value, UnavailableError)


async def test_scores_that_are_no_numbers_are_an_error(client: ModelClient) -> None:
    with pytest.raises(RecMeshError):
        await client.retrieve(wanted(1, user_id="nan"), timeout_s=1)


async def test_a_history_that_is_not_aligned_is_refused(client: ModelClient) -> None:
    request = asked("a")
    request.user.history_item_ids.append("x")
    with pytest.raises(InvalidRequestError):
        await client.score(request, timeout_s=1)


async def test_nobody_there_is_known_at_once() -> None:
    client = GrpcModelClient("length", ["127.0.0.1:1"])
    started_s = time.monotonic()
    with pytest.raises(UnavailableError):
        await client.score(asked("a"), timeout_s=5)
    assert time.monotonic() - started_s < 2
    await client.close()


async def test_a_lost_replica_loses_no_call(server: tuple[GrpcServer, str]) -> None:
    second = model_server(ModelMethods(LengthModel()))
    port = await second.start("127.0.0.1:0")
    client = GrpcModelClient("length", [server[1], f"127.0.0.1:{port}"])
    for call in range(40):
        if call == 20:
            await second.stop(0)
        assert list((await client.score(asked("ab"), timeout_s=2)).scores) == [2]
    await client.close()


class SilentModel(LengthModel):
    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        time.sleep(0.5)
        return super().score(context, item_ids)


async def test_a_silent_replica_is_passed_over(server: tuple[GrpcServer, str]) -> None:
    silent = model_server(ModelMethods(SilentModel()))
    port = await silent.start("127.0.0.1:0")
    client = GrpcModelClient("length", [f"127.0.0.1:{port}", server[1]])
    answered = 0
    for _ in range(6):
        with contextlib.suppress(DeadlineError):
            answered += len((await client.score(asked("ab"), timeout_s=0.2)).scores)
    assert answered == 5, "only the first call may wait in vain"
    await client.close()
    await silent.stop(0)


async def test_silent_discovery_forgets_nobody(server: tuple[GrpcServer, str]) -> None:
    client = GrpcModelClient("length", [server[1]])
    client.set_addresses([])
    assert list((await client.score(asked("ab"), timeout_s=1)).scores) == [2]
    await client.close()


async def test_new_addresses_take_over(server: tuple[GrpcServer, str]) -> None:
    client = GrpcModelClient("length", ["127.0.0.1:1"])
    client.set_addresses([server[1]])
    assert list((await client.score(asked("ab"), timeout_s=1)).scores) == [2]
    await client.close()
