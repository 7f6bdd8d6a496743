"""``recmesh campaigns`` on what a mesh left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.storage.campaign_tables import CAMPAIGN_COUNTS
from recmesh.storage.database import Database
from recmesh.storage.home import Home
from recmesh.storage.ingest import ingest
from recmesh.v1 import common_pb2
from tests.edge.test_campaigns import calling, event, ordered, sponsored_page
from tests.edge.test_feedback_service import ACCEPTED, home  # noqa: F401


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["campaigns", *arguments])
    return result.exit_code, result.output


async def test_a_report_says_what_was_delivered_and_verifies_it(
    home: Home,  # noqa: F811
) -> None:
    async with calling(home) as caller:
        await ordered(caller)
        page, slot = await sponsored_page(caller)
        shown = event(
            common_pb2.EVENT_TYPE_IMPRESSION, "reader", slot.item_id, page.attribution_token
        )
        assert await caller.record(shown) == [ACCEPTED]
    code, output = run("report", "--json", "--verify")
    assert code == 0
    said = json.loads(output)
    (campaign,) = said["campaigns"]
    assert campaign["confirmed_impressions"] == 1
    assert campaign["state"] == "running"
    assert said["differences"] == []
    code, output = run("report", "c1", "--verify")
    assert code == 0
    assert "the ledger equals the event log" in output

    database = Database.for_writing("", home.database)
    with database.writing() as connection:
        connection.execute(sa.update(CAMPAIGN_COUNTS).values(confirmed=5))
    database.close()
    code, output = run("report", "--verify")
    assert code == 1
    assert "the ledger says 5" in output


def test_a_report_before_anything_happened(home: Home) -> None:  # noqa: F811
    code, output = run("report")
    assert (code, output.strip()) == (0, "no campaigns")
    code, output = run("report", "nobody's")
    assert code != 0
    assert 'no campaign "nobody\'s"' in output


def test_a_rehearsal_delivers_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tmp_path / "world"
    made = ["world", "generate", "--out", str(world), "--doctors", "200", "--items", "200"]
    assert CliRunner().invoke(app, [*made, "--days", "20"]).exit_code == 0
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "home"))
    ingest(world, Home.from_environment().dataset)
    options = "--models cf --days 1 --campaigns 2 --too-large 1 --pages-per-day 400 --json"
    code, output = run("rehearse", str(world), *options.split())
    assert code == 0, output
    report = json.loads(output)
    assert report["pages"] > 300
    assert report["ledger_faults"] == 0
    for campaign in report["campaigns"]:
        assert campaign["confirmed"] <= campaign["bought"]
        assert campaign["most_in_a_day"] <= campaign["cap_per_day"]
    assert any(campaign["confirmed"] for campaign in report["campaigns"])
    code, output = run("rehearse", str(world), "--models", "cf", "--outage", "nlp")
    assert code != 0
    assert "--outage nlp" in output
