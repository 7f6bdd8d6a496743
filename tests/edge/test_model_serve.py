"""``recmesh model serve``: the command itself, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments.span_receiver import spans_received
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import free_port
from recmesh.v1 import common_pb2, model_pb2, model_pb2_grpc
from tests.small_world import NOW_UNIX_S, tastes_home, train
from tests.tls_certificates import Authority

ENDS_S = 20
TRACE = "ab" * 16


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which ``cf`` was trained."""
    made = Home(tastes_home(tmp_path_factory.mktemp("serve")))
    train(made, "cf")
    return made


@contextlib.contextmanager
def serving(
    home: Home, *words: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """The process, and what it says once it serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recmesh.cli.main", "model", "serve", *words, "--json"],
        env={**os.environ, "RECMESH_HOME": str(home.root), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait(ENDS_S)


def reader() -> model_pb2.RetrieveRequest:
    user = common_pb2.UserFeatures(
        user_id="u",
        history_item_ids=["a1"],
        history_event_types=[common_pb2.EVENT_TYPE_CLICK],
        history_times_unix_s=[NOW_UNIX_S],
    )
    return model_pb2.RetrieveRequest(user=user, limit=3, now_unix_s=NOW_UNIX_S)


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_told_to_end(home: Home, ended_by: signal.Signals) -> None:
    with serving(home, "cf") as (process, said):
        with grpc.insecure_channel(str(said["address"])) as channel:
            found = model_pb2_grpc.ModelServiceStub(channel).Retrieve(reader())
            health = health_pb2_grpc.HealthStub(channel)
            states = [
                health.Check(health_pb2.HealthCheckRequest(service=service)).status
                for service in ("", "recmesh.v1.ModelService")
            ]
        assert (said["model"], said["version"], said["tls"]) == ("cf", found.version, False)
        assert len(found.item_ids) == 3
        assert all(item.startswith("a") for item in found.item_ids)
        assert states == [health_pb2.HealthCheckResponse.SERVING] * 2
        process.send_signal(ended_by)
        assert process.wait(ENDS_S) == 0


def test_it_speaks_tls_to_those_who_believe_its_signer(home: Home, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.pair("127.0.0.1")
    words = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    with serving(home, "cf", *words) as (_, said):
        believed = grpc.ssl_channel_credentials(authority.file.read_bytes())
        with grpc.secure_channel(str(said["address"]), believed) as channel:
            found = model_pb2_grpc.ModelServiceStub(channel).Retrieve(reader())
        assert said["tls"] is True
        assert found.item_ids


def test_it_tells_what_a_mesh_tells(home: Home) -> None:
    port = free_port()
    with spans_received("127.0.0.1:0") as receiver:
        told = {
            "RECMESH_TELEMETRY__OTLP_ENDPOINT": receiver.endpoint,
            "RECMESH_TELEMETRY__METRICS_PORT": str(port),
        }
        with serving(home, "cf", **told) as (process, said):
            with grpc.insecure_channel(str(said["address"])) as channel:
                model_pb2_grpc.ModelServiceStub(channel).Retrieve(
                    reader(), metadata=[("traceparent", f"00-{TRACE}-{'cd' * 8}-01")]
                )
            with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                metrics = answer.read().decode()
            process.send_signal(signal.SIGTERM)
            assert process.wait(ENDS_S) == 0
        spans = [(span.service, span.name, span.trace_id) for span in receiver.spans()]
    assert spans == [("recmesh-cf", "recmesh.v1.ModelService/Retrieve", TRACE)]
    assert 'recmesh_requests_total{application="cf"' in metrics


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dreams"], "unknown model 'dreams'; known: cf"),
        (["cf", "--version", "beef"], "model cf has no version beef"),
        (["cf", "--tls-cert", "a.pem"], "--tls-cert and --tls-key go together"),
        (
            ["cf", "--tls-cert", "no.pem", "--tls-key", "no.key"],
            "cannot read the certificate no.pem",
        ),
        (["nlp"], "run: recmesh train nlp"),
    ],
)
def test_what_cannot_be_served_says_why(home: Home, words: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["model", "serve", *words], env={"RECMESH_HOME": str(home.root)})
    assert done.exit_code == 1
    assert says in done.output


def test_a_key_of_another_certificate_is_refused(home: Home, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, other = authority.pair("127.0.0.1"), authority.pair("elsewhere")
    words = ["--tls-cert", str(own.certificate), "--tls-key", str(other.key)]
    done = CliRunner().invoke(
        app, ["model", "serve", "cf", *words], env={"RECMESH_HOME": str(home.root)}
    )
    assert done.exit_code == 1
    assert "not a certificate and its key" in done.output
