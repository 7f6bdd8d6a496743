from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.chart_labels import PLOT_PX, label_offsets
from recmesh.offline.evaluation.evaluate import Settings
from recmesh.offline.evaluation.evaluate import evaluate as evaluated
from recmesh.offline.evaluation.report import SliceFigures
from recmesh.offline.evaluation.report_page import html_page
from recmesh.storage.dataset import Dataset
from tests.small_world import tastes_home

RUN = ["--models", "cf", "--models", "network", "--bootstrap-samples", "20", "--k", "3"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tastes_home(tmp_path_factory.mktemp("tastes"))


def evaluate(home: Path, *arguments: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--home", str(home), *RUN, *arguments])
    assert result.exit_code == 0, result.output


def without_plotly(page: str) -> str:
    """The page less the library, which is longer than everything else."""
    start = page.index("<script>")
    return page[:start] + page[page.index("</script>", start) :]


def test_the_page_stands_alone_and_says_what_the_json_says(home: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "made" / "page.html", tmp_path / "made" / "out.json"
    evaluate(home, "--report", str(file), "--out", str(out))
    page, report = file.read_text(), json.loads(out.read_text())
    assert page.count("Plotly.newPlot") >= 5
    own = without_plotly(page)
    assert not re.findall(r"<(?:link|img|iframe|script)[^>]*(?:src|href)=", own)
    assert not re.findall(r"https?://(?!plot\.ly)", own), "Plotly's own setting apart"
    blend = next(s for s in report["systems"] if s["name"] == "blend")
    for described in report["metrics"]:
        assert f"<b>{described['label']}</b>" in own
        value = blend["segments"]["all"][described["metric"]]["value"]
        if value is not None:
            assert f"{value:.3f}<small>" in own, described["metric"]
    assert {d["metric"] for d in report["metrics"]} >= {"ndcg", "exposure_gini", "popularity_lift"}
    assert "miscalibration" not in {d["metric"] for d in report["metrics"]}, "there are no topics"
    assert {s["dimension"] for s in report["slices"]} <= {"doctors", "activity"}
    assert sorted(path.name for path in file.parent.iterdir()) == ["out.json", "page.html"]


def test_what_data_are_called_is_shown_as_text(home: Path) -> None:
    """A slice's name comes from the data, and must not become markup."""
    settings = Settings(models=("network",), bootstrap_samples=10)
    report = evaluated(Dataset.open(home / "dataset"), settings).report
    hostile = "</script><script>alert(1)</script>"
    everywhere = {s.name: s.segments["all"] for s in report.systems}
    report.slices.append(SliceFigures("specialty", hostile, 40, everywhere))
    report.remarks.append(hostile)
    page = html_page(report)
    assert page == html_page(report), "equal reports give equal pages"
    page = without_plotly(page)
    assert hostile not in page
    assert "alert(1)" in page


def test_a_page_of_another_kind_is_refused_before_the_work(home: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for target, said in (
        (tmp_path / "page.pdf", "ends in '.pdf'; use .html"),
        (tmp_path / "page", "ends in ''; use .html"),
        (blocked / "page.html", "no folder can be made there"),
    ):
        arguments = ["evaluate", "--home", str(home), "--report", str(target)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert said in result.output.replace("\n", " ")


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_labels_stay_within_the_plot_when_their_points_do(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    points = 0.25 + 0.5 * rng.random((n, 2))
    across, up = ([Interval(v, v, v) for v in points[:, axis].tolist()] for axis in (0, 1))
    letters = rng.integers(2, 9, n).tolist()
    found = label_offsets(across, up, letters, (0.0, 1.0), (0.0, 1.0))
    assert found == label_offsets(across, up, letters, (0.0, 1.0), (0.0, 1.0))
    middles = points * PLOT_PX + np.array(found) * np.array([1, -1])
    assert ((middles > 0) & (middles < PLOT_PX)).all()


def test_two_labels_of_near_points_keep_apart() -> None:
    same = [Interval(0.5, 0.5, 0.5), Interval(0.501, 0.501, 0.501)]
    (x, y), (other_x, other_y) = label_offsets(same, same, [4, 4], (0.0, 1.0), (0.0, 1.0))
    assert abs(x - other_x) >= 4 * 6.6 - 2 or abs(y - other_y) >= 14
