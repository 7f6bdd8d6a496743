from __future__ import annotations

from pathlib import Path

import grpc
import psutil
import pytest
from typer.testing import CliRunner

from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc
from tests.small_world import ingested_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return ingested_home(tmp_path)


async def test_without_any_model_every_surface_but_search_has_a_page(home: Home) -> None:
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        for surface in ("feed", "swipe", "network"):
            response = await stub.Recommend(
                recommendation_pb2.RecommendRequest(surface=surface, user_id="reader")
            )
            assert response.recommendations
            assert response.degraded


async def test_ten_thousand_bad_requests_leave_memory_flat(home: Home) -> None:
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        request = recommendation_pb2.RecommendRequest(surface="feed", user_id="u", page_size=-1)

        async def refused(times: int) -> None:
            for _ in range(times):
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.Recommend(request)

        await refused(1_000)
        before = psutil.Process().memory_info().rss
        await refused(10_000)
        assert psutil.Process().memory_info().rss - before < 16 * 2**20


async def test_nothing_ingested_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="recmesh ingest"):
        async with local_mesh(Home(tmp_path), DEFAULT_POLICY, "127.0.0.1:0"):
            pass


async def test_a_taken_port_is_a_clear_error(home: Home) -> None:
    async with local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh:
        with pytest.raises(ConfigurationError, match="another process"):
            async with local_mesh(home, DEFAULT_POLICY, mesh.address):
                pass


def test_calling_nobody_says_unavailable() -> None:
    from recmesh.cli.main import app

    outcome = CliRunner().invoke(app, ["call", "d1", "--address", "127.0.0.1:1"])
    assert outcome.exit_code == 1
    assert "UNAVAILABLE" in outcome.output
