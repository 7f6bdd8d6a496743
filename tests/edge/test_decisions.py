"""Pages are recorded, explained and replayed, as those who ask see it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home
from recmesh.v1 import catalog_pb2, recommendation_pb2
from tests.edge.test_campaigns import calling, ordered, sponsored_page
from tests.edge.test_feedback_service import Caller, home  # noqa: F401

TRIES = 100


async def explained(
    caller: Caller, request_id: str, *item_ids: str
) -> recommendation_pb2.ExplainResponse:
    """Once the record is there."""
    request = recommendation_pb2.ExplainRequest(request_id=request_id, item_ids=item_ids)
    for _ in range(TRIES):
        try:
            answer = await caller.recommendations.Explain(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            await asyncio.sleep(0.1)
        else:
            assert isinstance(answer, recommendation_pb2.ExplainResponse)
            return answer
    pytest.fail("the decision was never recorded")


async def recmesh(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def test_a_page_is_explained_and_replayed_after_the_mesh_is_gone(
    home: Home,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with calling(home) as caller:
        page = await caller.page()
        shown = [slot.item_id for slot in page.recommendations]
        answer = await explained(caller, page.request_id)
        assert [item.item_id for item in answer.items] == shown
        (dropped,) = (await explained(caller, page.request_id, "i0")).items
        assert dropped.rule == "seen"
        (unknown,) = (await explained(caller, page.request_id, "no-such-item")).items
        assert unknown.rule == "the catalogue has no such item now"
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    one = await recmesh("replay", page.request_id, "--json")
    (replayed,) = json.loads(one.output)
    assert one.exit_code == 0
    assert replayed["differences"] == []
    assert [slot["item_id"] for slot in replayed["slots"]] == shown
    both = await recmesh("replay", page.request_id, "--policy", str(DEFAULT_POLICY), "--json")
    (compared,) = json.loads(both.output)
    assert [slot["item_id"] for slot in compared["other"]["slots"]] == shown
    every = await recmesh("replay", "--json")
    tally = json.loads(every.output)
    assert tally["pages"] == tally["identical"] >= 1
    assert tally["lost"] == 0
    nothing = await recmesh("replay", "unheard-of")
    assert nothing.exit_code == 1
    assert "no decision of request 'unheard-of' is kept" in nothing.output


async def test_an_unknown_request_is_not_found(home: Home) -> None:  # noqa: F811
    async with calling(home) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.recommendations.Explain(
                recommendation_pb2.ExplainRequest(request_id="unheard-of"), timeout=10
            )
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_sponsored_page_is_recorded_before_it_is_shown(home: Home) -> None:  # noqa: F811
    async with calling(home) as caller:
        await ordered(caller)
        page, slot = await sponsored_page(caller)
        request = recommendation_pb2.ExplainRequest(
            request_id=page.request_id, item_ids=[slot.item_id]
        )
        (item,) = (await caller.recommendations.Explain(request, timeout=10)).items
        assert item.rank == slot.rank


async def test_the_decisions_of_an_erased_doctor_are_gone(home: Home) -> None:  # noqa: F811
    async with calling(home) as caller:
        page = await caller.page()
        network = await caller.recommendations.Recommend(
            recommendation_pb2.RecommendRequest(surface="network", user_id="colleague"), timeout=10
        )
        assert "reader" in {slot.item_id for slot in network.recommendations}
        await explained(caller, page.request_id)
        await explained(caller, network.request_id)
        answer = await caller.catalog.DeleteUsers(
            catalog_pb2.DeleteUsersRequest(user_ids=["reader"]), timeout=30
        )
        remaining = {check.store: check.remaining for check in answer.checks}
        assert remaining["database: decisions"] == 0
        assert remaining["database: decisions that recommend them"] == 0
        for request_id in (page.request_id, network.request_id):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await caller.recommendations.Explain(
                    recommendation_pb2.ExplainRequest(request_id=request_id), timeout=10
                )
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_without_a_database_replay_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["replay"])
    assert result.exit_code == 1
    assert "nothing is recorded yet" in result.output
