"""What checks of models are made of: numbers, rules, reports, targets."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.offline.model_checks.checks.calibration import errors
from recmesh.offline.model_checks.judged import Judged
from recmesh.offline.model_checks.junit import junit_xml
from recmesh.offline.model_checks.opinions import difference, opinions
from recmesh.offline.model_checks.registry import CHECKS
from recmesh.offline.model_checks.result import Result, Rules, Status, measured
from recmesh.offline.model_checks.target import is_address
from recmesh.v1 import model_pb2
from tests.small_world import ingested_home, train

DECLARED = 'name = "unready"\nowner = "o"\ncontact = "c"\nsummary = "s"'
NUMBERS = st.lists(st.floats(width=32), max_size=20)


@given(NUMBERS)
def test_equal_answers_do_not_differ(values: list[float]) -> None:
    assert difference(np.array(values), np.array(values)) == 0


@given(NUMBERS, NUMBERS)
def test_a_difference_is_the_same_both_ways_and_never_nan(a: list[float], b: list[float]) -> None:
    one, two = np.array(a), np.array(b)
    assert difference(one, two) == difference(two, one) >= 0


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        ([1.0, 100.0], [1.0, 101.0], 1 / 101),
        ([0.0], [0.5], 0.5),
        ([np.nan], [0.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
        ([np.nan, 2.0], [np.nan, 2.0], 0.0),
    ],
)
def test_differences_are_relative_and_lost_opinions_infinite(
    ours: list[float], theirs: list[float], apart: float
) -> None:
    assert difference(np.array(ours), np.array(theirs)) == pytest.approx(apart)


def test_missing_places_are_no_numbers_even_beyond_the_end() -> None:
    answer = model_pb2.ScoreResponse(scores=[1, 2, 3], missing=[1, 7])
    assert np.isnan(opinions(answer)).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("value", "bound", "passes"),
    [(1.0, "at most", True), (1.1, "at most", False), (np.nan, "at most", False),
     (1.1, "above", True), (1.0, "above", False), (np.nan, "above", False)],
)  # fmt: skip
def test_a_number_is_held_to_its_limit(value: float, bound: str, passes: bool) -> None:
    found = measured(value, 1.0, "ms", passed="p", failed="f", fix="x", bound=bound)  # type: ignore[arg-type]
    assert (found.status is Status.PASSED) is passes
    assert found.said == ("p" if passes else "f")
    assert bool(found.fix) is not passes


def test_broken_rules_are_said_and_many_are_counted() -> None:
    rules = Rules()
    rules.hold(True, "never said", "never needed")
    for number in range(5):
        rules.hold(False, f"fault {number}", "mend it")
        rules.hold(False, f"fault {number}", "mend it")
    found = rules.result("all hold")
    assert found.said == "fault 0; fault 1; fault 2; and 2 more"
    assert found.fix == "mend it"
    assert found.number == "5 of 6 rules broken, at most 0"


def test_a_calibration_that_is_right_has_no_error_and_an_exaggerating_one_has() -> None:
    wanted = np.array([0.0] * 90 + [1.0] * 10 + [0.0] * 10 + [1.0] * 90)
    right, wrong = np.repeat([0.1, 0.9], 100), np.repeat([0.5, 1.0], 100)
    ones = np.ones(200)
    error, brier, of_rate = errors(right, wanted, ones)
    assert error == pytest.approx(0, abs=1e-12)
    assert (brier, of_rate) == (pytest.approx(0.09), pytest.approx(0.25))
    assert errors(wrong, wanted, ones)[0] == pytest.approx(0.25)


def judgements() -> list[Judged]:
    check = next(iter(CHECKS.values()))
    return [
        Judged(check, Result(Status.PASSED, "well", "", 1.0, 2.0, "ms"), 0.5),
        Judged(check, Result(Status.FAILED, "wrong \x00 <&>", "mend it", 3.0, 2.0, "ms"), 0.25),
        Judged(check, Result(Status.NOT_CHECKED, "no data"), 0.0),
    ]


def test_junit_counts_and_escapes() -> None:
    suite = ElementTree.fromstring(junit_xml("cf", judgements()))[0]
    counts = {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")}
    assert counts == {"tests": "3", "failures": "1", "skipped": "1", "errors": "0"}
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "wrong ? <&>"
    assert failure.text == "3 ms, at most 2\nmend it"
    assert suite[2].find("skipped") is not None


def test_an_infinite_value_is_still_json() -> None:
    check = next(iter(CHECKS.values()))
    said = Judged(check, Result(Status.FAILED, "f", "x", np.inf, 1.0), 0.1).as_json()
    assert json.loads(json.dumps(said, allow_nan=False))["value"] is None


def test_every_check_says_what_it_does_and_why() -> None:
    listed = json.loads(run("--list", "--json"))
    assert [one["check"] for one in listed] == list(CHECKS)
    assert all(one["measures"].endswith(".") and one["why"].endswith(".") for one in listed)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:7000", True), ("[::1]:7000", True), ("model.example:443", True),
     ("cf", False), ("model-cf", False), ("./models/cf", False), ("host:", False)],
)  # fmt: skip
def test_addresses_are_told_from_names(text: str, address: bool) -> None:
    assert is_address(text) is address


def run(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["model", "check", *words])
    assert done.exit_code == status, done.output
    return done.stdout if status != 1 else done.output


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = ingested_home(tmp_path / "home")
    monkeypatch.setenv("RECMESH_HOME", str(made.root))
    train(made, "cf")
    return made.root


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "name what is checked"),
        (("cf", "--only", "gravity"), "there are contract"),
        (("cf", "--only", "contract", "--skip", "contract"), "leave no check"),
        (("cf", "--junit", "checks.json"), "use .xml"),
        (("cd",), "unknown model 'cd'"),
        (("network",), "recmesh train network"),
        (("cf", "--version", "beef"), "has no version beef"),
        (("model-cf",), "no mesh runs here"),
        (("127.0.0.1:1", "--version", "beef"), "leave --version out"),
        (("127.0.0.1:1",), "no model at 127.0.0.1:1"),
        (("tests",), "holds 0 files model.toml"),
    ],
)
def test_what_cannot_be_checked_says_why(words: tuple[str, ...], why: str, home: Path) -> None:
    assert why in " ".join(run(*words, status=1).split())


def test_a_folder_that_cannot_be_imported_says_why(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unready_model"
    folder.mkdir()
    (folder / "model.toml").write_text(DECLARED)
    (folder / "__init__.py").write_text("import no_such_module")
    assert "No module named 'no_such_module'" in run(str(folder), status=1)
