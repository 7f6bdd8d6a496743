"""Replicas of a secure mesh answer nobody but those inside it."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.mesh_token import kept_mesh_token, mesh_token
from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home
from tests.checked_models import CleanModel


def test_the_token_lives_as_long_as_its_mesh_and_is_its_owners(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    assert mesh_token(home) == ""
    with kept_mesh_token(home, secure=True) as token:
        assert mesh_token(home) == token
        assert len(token) == 64
        assert stat.S_IMODE((home.run / "mesh-token").stat().st_mode) == 0o600
    assert mesh_token(home) == ""
    (home.run / "mesh-token").write_text("of a mesh that was killed")
    with kept_mesh_token(home, secure=False) as token:
        assert token == mesh_token(home) == ""


async def test_a_replica_takes_calls_with_the_token_alone_and_health_from_all() -> None:
    server = model_server(ModelMethods(CleanModel()), "sesame")
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    try:
        inside = GrpcModelClient("clean", [address], token="sesame")
        assert (await inside.describe(timeout_s=5)).version
        await inside.close()
        for token in ("", "sesam", "sesame ", "Sesame"):
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
