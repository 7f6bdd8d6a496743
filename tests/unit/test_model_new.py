"""``recmesh model new``: what it writes is fit to be kept."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.models.declaration import ModelDeclaration

HOUSE = Path(__file__).parents[2]
LONGEST = "a" * 19 + "-" + "z" * 20


def new(*words: str) -> str:
    done = CliRunner().invoke(app, ["model", "new", *words])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, ["model", "new", *words])
    assert done.exit_code == 1
    return done.output


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of what this repository is to the command."""
    (tmp_path / "models").mkdir()
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    for file in ("models/registry.py", "pyproject.toml"):
        shutil.copy(HOUSE / file, tmp_path / file)
    return tmp_path


def style(folder: Path) -> subprocess.CompletedProcess[str]:
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--no-cache", "--config", str(folder / "pyproject.toml"), str(folder)]
    checked = subprocess.run(
        [*ruff, "check", *options], capture_output=True, text=True, check=False, cwd=folder
    )
    if checked.returncode:
        return checked
    return subprocess.run(
        [*ruff, "format", "--check", "--diff", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize("name", ["ease", "nlp2", LONGEST])
@pytest.mark.parametrize("standalone", [False, True])
def test_what_is_written_is_in_the_style_of_where_it_goes(
    house: Path, name: str, standalone: bool
) -> None:
    new(name, "--into", str(house), *(["--standalone"] if standalone else []))
    found = style(house / name if standalone else house)
    assert found.returncode == 0, found.stdout + found.stderr


def test_in_the_house_it_is_a_folder_a_test_and_a_line(house: Path) -> None:
    said = json.loads(new("co-readers", "--into", str(house), "--json"))
    before = (HOUSE / "models" / "registry.py").read_text().splitlines()
    after = (house / "models" / "registry.py").read_text().splitlines()
    assert [line for line in after if line not in before] == [
        '    "co-readers": "recmesh.models.co_readers",'
    ]
    assert len(after) == len(before) + 1
    assert said["package"] == "recmesh.models.co_readers"
    assert all(Path(file).is_file() for file in said["files"])
    assert ModelDeclaration.load(house / "models" / "co_readers").name == "co-readers"
    assert sorted(path.name for path in house.iterdir()) == ["models", "pyproject.toml", "tests"]


def test_its_own_integration_checks_the_model_with_commands_there_are(house: Path) -> None:
    new("co-readers", "--into", str(house), "--standalone")
    workflow = (house / "co-readers" / ".github" / "workflows" / "checks.yml").read_text()
    commands = [shlex.split(line) for line in re.findall(r"- run: recmesh (.*)", workflow)]
    assert ["model", "check", "co-readers", "--junit", "checks.xml"] in commands
    for words in commands:
        # Options are parsed before --help stops the command.
        done = CliRunner().invoke(app, [*words, "--help"])
        assert done.exit_code == 0, done.output


def test_a_line_that_is_there_is_not_added_again(house: Path) -> None:
    new("co-readers", "--into", str(house))
    shutil.rmtree(house / "models" / "co_readers")
    (house / "tests" / "unit" / "test_co_readers.py").unlink()
    registered = (house / "models" / "registry.py").read_text()
    new("co-readers", "--into", str(house))
    assert (house / "models" / "registry.py").read_text() == registered


@pytest.mark.parametrize("standalone", [False, True])
def test_what_was_written_passes_its_own_tests(house: Path, standalone: bool) -> None:
    said = json.loads(
        new("co-readers", "--into", str(house), "--json", *["--standalone"][: int(standalone)])
    )
    (test,) = (Path(file) for file in said["files"] if file.endswith("test_co_readers.py"))
    if not standalone:
        # Only the house itself is imported as recmesh; the copy's package stands in for it.
        test.write_text(test.read_text().replace("recmesh.models.co_readers", "co_readers"))
        package = house / "models" / "co_readers"
        for file in package.glob("*.py"):
            file.write_text(file.read_text().replace("recmesh.models.co_readers", "co_readers"))
    root = house / "co-readers" if standalone else house / "models"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--rootdir", str(root), "-c", "/dev/null", str(test)),
        ],
        env={"PYTHONPATH": f"{HOUSE / '.editable'}:{root}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("standalone", [False, True])
@pytest.mark.parametrize("name", ["Ease", "1st", "a_b", "a--b", "a-", "ease plus", "x" * 41])
def test_names_that_break_the_rule_are_told_it(house: Path, name: str, standalone: bool) -> None:
    said = refused(name, "--into", str(house), *["--standalone"][: int(standalone)])
    assert "lower-case words of letters and digits, joined by dashes" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cf", "--standalone"], "a model cf already: recmesh.models.cf"),
        (["numpy", "--standalone"], "a package numpy already"),
        (["random", "--standalone"], "a package random already"),
        (["registry"], "a model registry already: models/registry.py"),
        (["vector-index"], "names something else already"),
        (["lambda"], "names something else already"),
    ],
)
def test_names_that_are_taken_are_refused(house: Path, words: list[str], says: str) -> None:
    assert says in refused(*words, "--into", str(house))


def test_nothing_is_written_over(house: Path) -> None:
    new("co-readers", "--into", str(house))
    new("others", "--into", str(house), "--standalone")
    assert "a model co-readers already" in refused("co-readers", "--into", str(house))
    assert "is there already" in refused("others", "--into", str(house), "--standalone")


def test_elsewhere_it_says_where_it_belongs(tmp_path: Path) -> None:
    assert "run this in the repository's root" in refused("ease", "--into", str(tmp_path))
