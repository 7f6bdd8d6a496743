"""Commands in the data documents are ones that the command line knows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app

DOCS = Path(__file__).parents[2] / "docs"


def _commands(document: str) -> list[list[str]]:
    text = (DOCS / document).read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    parts = [part for line in lines for part in line.split("&&")]
    words = [shlex.split(part, comments=True) for part in parts if "recmesh " in part]
    return [part[part.index("recmesh") + 1 :] for part in words if "recmesh" in part]


def _understood(words: list[str]) -> bool:
    """Options are parsed before --help stops the command."""
    return CliRunner().invoke(app, [*words, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    "document",
    [
        "catalog-writes.md",
        "data-protection.md",
        "datasets.md",
        "diagnosis.md",
        "embeddings.md",
        "events.md",
        "experiments.md",
        "interchange.md",
        "observability.md",
        "load.md",
        "metrics.md",
        "model-owners.md",
        "model-deployment.md",
        "model-checks.md",
        "model-trials.md",
        "retraining.md",
        "search.md",
        "security.md",
        "tuning.md",
        "world.md",
        "swipe.md",
    ],
)
def test_documented_commands_parse(document: str) -> None:
    commands = _commands(document)
    assert commands
    assert [words for words in commands if not _understood(words)] == []


def test_what_is_not_a_command_would_be_found() -> None:
    assert not _understood(["world", "generate", "--itemz", "3"])
    assert not _understood(["world", "make"])
