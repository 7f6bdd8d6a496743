"""``recmesh diagnose`` as its users meet it: terminal, JSON, page, exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recmesh.cli.diagnose import ALARM
from recmesh.cli.main import app
from recmesh.offline.diagnosis.diagnose import diagnose
from recmesh.offline.diagnosis.diagnosis_page import html_page
from recmesh.offline.diagnosis.diagnosis_report import DiagnosisReport
from recmesh.offline.diagnosis.finding import Severity
from recmesh.offline.diagnosis.registry import CHECKS
from recmesh.offline.diagnosis.serving_log import ServingLog
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.storage.home import Home
from recmesh.storage.ingest import ingest
from tests.small_world import ingested_home
from tests.tiny_serving_log import tiny_log
from tests.unit.test_diagnosis import popular_everywhere, short


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A world's events, ingested."""
    folder = tmp_path_factory.mktemp("diagnose")
    config = WorldConfig(doctors=200, items=300, days=30, sessions_per_day=0.4)
    generate(folder / "world", config)
    ingest(folder / "world", folder / "home" / "dataset")
    return Home(folder / "home")


@pytest.fixture(autouse=True)
def in_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(home.root))


def run(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["diagnose", *words])
    assert done.exit_code == status, done.output
    return done.stdout if status != 1 else done.output


def test_every_check_is_in_the_table_and_in_the_json() -> None:
    shown = run()
    said = json.loads(run("--json"))
    judged = {one["check"] for one in (*said["measured"], *said["too_few"])}
    for name in CHECKS:
        assert name in shown
        # Nothing was assigned, and no campaign of a mesh ran.
        assert name in judged or name == "biased-assignment"
    assert said["events"] == "ingested"
    assert said["slots"] > 0


def test_one_check_can_be_asked_for() -> None:
    said = json.loads(run("--json", "--check", "stale-content"))
    assert {one["check"] for one in said["measured"]} == {"stale-content"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--check", "gravity"), "there are filter-bubble"),
        (("--report", "page.pdf"), "use .html"),
        (("--events", "recorded"), "no impression was recorded"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], why: str) -> None:
    assert why in " ".join(run(*words, status=1).split())


def test_nothing_ingested_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    assert "recmesh ingest" in run(status=1)


def test_a_data_set_without_impressions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(ingested_home(tmp_path).root))
    assert "no impression" in run(status=1)


def report(log: ServingLog) -> DiagnosisReport:
    return DiagnosisReport.of(log, diagnose(log), "recorded")


def test_alarms_say_severity_number_trend_slice_and_lever() -> None:
    said = json.loads(report(popular_everywhere(tiny_log())).as_json())
    alarm = next(one for one in said["alarms"] if one["check"] == "popularity-bias")
    assert alarm["severity"] in {"warning", "critical"}
    assert alarm["low"] < alarm["value"] < alarm["high"]
    assert alarm["low"] > alarm["allowed"]
    assert alarm["trend"]["said"] in {"rising", "falling", "steady"}
    assert "model_weights" in alarm["lever"]
    assert f"{alarm['value']:.2f} times" in alarm["sentence"]


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    log = short(tiny_log())
    log.doctors.specialty_names[0] = "<script>alert(1)</script>"
    page = html_page(report(log))
    assert "Empty or short slates" in page
    assert "<script>alert(1)" not in page
    assert "https://" not in page.replace("https://plotly.com", "").split("</script>")[-1]
    assert page == html_page(report(log))


@pytest.mark.parametrize(
    ("fail_on", "worst", "status"),
    [
        ("never", Severity.CRITICAL, 0),
        ("warning", Severity.WARNING, ALARM),
        ("warning", Severity.CRITICAL, ALARM),
        ("critical", Severity.WARNING, 0),
        ("critical", Severity.CRITICAL, ALARM),
        ("warning", None, 0),
    ],
)
def test_findings_end_with_the_status_that_was_asked_for(
    fail_on: str, worst: Severity | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worst_of(_: Any) -> Severity | None:
        return worst

    monkeypatch.setattr(DiagnosisReport, "worst", worst_of)
    run("--fail-on", fail_on, "--check", "stale-content", status=status)
