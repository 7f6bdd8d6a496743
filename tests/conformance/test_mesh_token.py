"""Replicas of a secure mesh answer nobody but those inside it."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recmesh.deployments.caller import MESH_TOKEN_KEY
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.mesh_token import (
    FILE_VARIABLE,
    from_inside,
    kept_mesh_token,
    mesh_token,
    shown_token_file,
)
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.storage.errors import ConfigurationError, RecMeshError
from recmesh.storage.home import Home
from tests.checked_models import CleanModel


def test_the_token_lives_as_long_as_its_mesh_and_is_its_owners(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    assert mesh_token(home) == ""
    with kept_mesh_token(home, secure=True):
        token = mesh_token(home)
        assert len(token) == 64
        assert stat.S_IMODE((home.run / "mesh-token").stat().st_mode) == 0o600
    assert mesh_token(home) == ""
    (home.run / "mesh-token").write_text("of a mesh that was killed")
    with kept_mesh_token(home, secure=False):
        assert mesh_token(home) == ""


def test_a_named_file_is_of_all_nodes_and_says_what_is_shown_and_what_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file = Home(tmp_path), tmp_path / "tokens"
    home.run.mkdir()
    new, old = "n" * 32, "o" * 32
    file.write_text(f"{new}\n{old}\n")
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    assert from_inside(mesh_token(home)) == ((MESH_TOKEN_KEY, new),)
    with kept_mesh_token(home, secure=True):
        assert shown_token_file(home).read_text() == new
    assert file.exists()
    assert not shown_token_file(home).exists()
    with (
        pytest.raises(ConfigurationError, match="recmesh up --secure"),
        kept_mesh_token(home, secure=False),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read .*tokens: No such file"),
        (b"", "openssl rand -hex 32"),
        (b"short\n", "openssl rand -hex 32"),
        (b"n" * 32 + b"\nshort", "openssl rand -hex 32"),
        ("\u00e9".encode() * 32, "openssl rand -hex 32"),
        (b"\xff" * 32, "it is no text"),
    ],
)
def test_a_file_that_cannot_hold_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None, said: str
) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_bytes(text)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(ConfigurationError, match=said):
        mesh_token(Home(tmp_path))


async def test_while_a_token_is_replaced_both_are_believed() -> None:
    server = model_server(ModelMethods(CleanModel()), "new old")
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    try:
        for token in ("new", "old", "new old"):
            inside = GrpcModelClient("clean", [address], token=token)
            assert (await inside.describe(timeout_s=5)).version
            await inside.close()
        # Not what stands in the file, but one of them.
        async with grpc.aio.insecure_channel(address) as channel:
            for shown in ("new old", "newold", " "):
                call = channel.unary_unary("/recmesh.v1.ModelService/Describe")(
                    b"", timeout=5, metadata=((MESH_TOKEN_KEY, shown),)
                )
                assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        await server.stop(0)


async def test_a_replica_takes_calls_with_the_token_alone_and_health_from_all() -> None:
    server = model_server(ModelMethods(CleanModel()), "sesame")
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    try:
        inside = GrpcModelClient("clean", [address], token="sesame")
        assert (await inside.describe(timeout_s=5)).version
        await inside.close()
        for token in ("", "sesam", "sesame2", "Sesame"):
            outside = GrpcModelClient("clean", [address], token=token)
            with pytest.raises(RecMeshError, match=r"UNAUTHENTICATED|only from inside its mesh"):
                await outside.describe(timeout_s=5)
            await outside.close()
        async with grpc.aio.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
            )
            assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        await server.stop(0)
