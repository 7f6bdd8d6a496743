"""``recmesh load`` against a mesh in this process, over real connections."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from typer.testing import CliRunner, Result

from recmesh.cli.load_generation import mesh_caller
from recmesh.cli.main import app
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc
from tests.small_world import ingested_home

QUICK = ("--mix", "feed=3,network=1", "--warm-up-s", "0", "--deadline-s", "5")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = ingested_home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(home.root))
    return home


@asynccontextmanager
async def serving(home: Home) -> AsyncIterator[str]:
    async with local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh:
        yield mesh.address


async def invoked(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["load", *words])


def said(outcome: Result) -> dict[str, Any]:
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


async def test_a_rate_a_profile_and_feedback(home: Home, tmp_path: Path) -> None:
    async with serving(home) as address:
        once = said(await invoked(address, *QUICK, "--rate", "40", "--seconds", "1", "--json"))
        (row,) = once["rows"]
        assert row["total"]["codes"] == {"OK": row["total"]["requests"]}
        assert 15 < row["total"]["requests"] < 70
        assert set(row["surfaces"]) == {"feed", "network"}
        assert row["total"]["p50_ms"] <= row["total"]["p99_ms"] <= 5000
        # This mesh has no model.
        assert row["total"]["degraded_share"] == 1
        for suffix in ("html", "png"):
            picture = tmp_path / f"steps.{suffix}"
            drawn = said(
                await invoked(
                    *(address, *QUICK, "--profile", "step:20,60x0.5s", "--json"),
                    *("--plot", str(picture), "--feedback", "1"),
                )
            )
            assert [row["rate_per_s"] for row in drawn["rows"]] == [20, 60]
            assert picture.stat().st_size > 10_000
        assert drawn["feedback"]["codes"]["OK"] > 0
        assert set(drawn["feedback"]["events"]) == {"ACCEPTED"}


async def test_a_sweep_that_cannot_hold_says_so_and_draws(home: Home, tmp_path: Path) -> None:
    async with serving(home) as address:
        picture = tmp_path / "knee.png"
        outcome = await invoked(
            *(address, "--mix", "feed=1", "--warm-up-s", "0", "--sweep", "--rate", "20"),
            # Nobody makes a page in a millisecond.
            *("--seconds", "0.5", "--deadline-s", "0.001", "--plot", str(picture)),
        )
    assert outcome.exit_code == 1
    assert "begin lower" in outcome.output
    assert "DEADLINE_EXCEEDED" in outcome.output
    assert picture.is_file()


async def test_ctrl_c_prints_what_was_measured(home: Home) -> None:
    class Counting(recommendation_pb2_grpc.RecommendationServiceServicer):
        def __init__(self) -> None:
            self.calls = 0
            self.enough = asyncio.Event()

        async def Recommend(self, request: Any, context: Any) -> Any:
            self.calls += 1
            if self.calls == 20:
                self.enough.set()
            return recommendation_pb2.RecommendResponse()

    servicer, server = Counting(), grpc.aio.server()
    recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recmesh.cli.main", "load", address, *QUICK),
        *("--rate", "50", "--seconds", "60", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"RECMESH_HOME": str(home.root)},
    )
    await asyncio.wait_for(servicer.enough.wait(), 30)
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    await server.stop(0)
    assert process.returncode == 130
    measured = json.loads(out)
    assert measured["interrupted"]
    (row,) = measured["rows"]
    assert row["seconds"] < 60
    assert row["total"]["codes"]["OK"] >= 20


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("10.0.0.1:50051",), "--allow-remote"),
        (("127.0.0.1:1",), "recmesh up"),
        (("--sweep", "--profile", "step:1x1"), "leave --profile out"),
        (("--plot", "x.png"), "--sweep or --profile"),
        (("--sweep", "--plot", "x.gif"), ".html or .png"),
        (("--users-file", "missing.txt"), "missing.txt"),
    ],
)
def test_what_cannot_work_says_the_fix(
    home: Home, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], fix: str
) -> None:
    monkeypatch.setattr(mesh_caller, "CONNECT_S", 0.3)
    outcome = CliRunner().invoke(app, ["load", *words])
    assert outcome.exit_code == 1
    assert fix in " ".join(outcome.output.split())
    assert "Traceback" not in outcome.output


def test_without_a_data_set_it_wants_doctors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    outcome = CliRunner().invoke(app, ["load"])
    assert outcome.exit_code == 1
    assert "recmesh ingest" in outcome.output
    assert "--users-file" in outcome.output
