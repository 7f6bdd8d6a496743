"""Commands are listed without being imported, and say the same as when they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from recmesh.cli.lazy_commands import COMMANDS, LazyCommands, described
from recmesh.cli.model import ModelCommands


@pytest.mark.parametrize("group", [LazyCommands, ModelCommands])
def test_a_command_says_the_same_listed_and_called(group: type[LazyCommands]) -> None:
    made = group(name="recmesh")
    for name, place in group.places.items():
        command = made.get_command(None, name)
        assert command is not None
        assert described(place).split() == command.help.split(), name


def test_no_command_goes_without_a_word() -> None:
    assert all(described(place) for place in [*COMMANDS.values(), *ModelCommands.places.values()])


def test_a_list_imports_no_command() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from recmesh.cli.main import app\n"
        "done = CliRunner().invoke(app, ['--help']); assert done.exit_code == 0, done.output\n"
        "assert 'retrain' in done.output\n"
        "print([m for m in ('ray', 'torch', 'pymilvus', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
