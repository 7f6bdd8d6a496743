from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.models.nlp import onnx_export
from recmesh.models.nlp.encoder import Encoder, find_weights
from recmesh.models.nlp.onnx_export import EXTRA, check_exportable, export
from recmesh.storage.errors import ConfigurationError
from tests.small_world import ingested_home
from tests.tiny_encoder import write_tiny_encoder

WORDS = "heart skin lung bone Title 1 2 3 4 5 6 7 8 9"
TEXTS = ["heart", "skin lung", "bone " * 40, "lung heart skin"]

needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in EXTRA),
    reason="recmesh[export] is not installed",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"), WORDS)


@needs_extra
def test_an_export_is_an_encoder_of_its_own_version(base: Path, tmp_path: Path) -> None:
    weights = find_weights(str(base))
    exported = export(weights, tmp_path / "made", "made", TEXTS)
    encoder = Encoder(find_weights(str(tmp_path / "made")))
    assert encoder.version == Encoder(exported.weights).version != Encoder(weights).version
    assert sorted(f.name for f in (tmp_path / "made").iterdir()) == [
        "model.onnx",
        "tokenizer.json",
    ]
    # Texts of any number and length, though the export saw one shape.
    cosines = (encoder.encode(TEXTS) * Encoder(weights).encode(TEXTS)).sum(axis=1)
    assert cosines.min() == pytest.approx(exported.lowest_cosine, abs=1e-4)
    assert cosines.min() > 0.98


@needs_extra
def test_an_export_that_turns_the_vectors_is_refused_and_not_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ingested_home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    monkeypatch.setattr(onnx_export, "LEAST_MEAN_COSINE", 1.1)
    said = CliRunner().invoke(app, ["embed", "export", "--encoder", str(base)])
    assert said.exit_code == 1
    assert "refused: the mean cosine of 40 texts" in said.output
    assert not list(home.encoders.iterdir())


@needs_extra
def test_the_command_keeps_it_beside_its_card(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingested_home(tmp_path)
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    words = ["embed", "export", "--encoder", str(base), "--json"]
    first, again = [CliRunner().invoke(app, words) for _ in range(2)]
    assert first.exit_code == 0, first.output
    outcome = json.loads(first.stdout)
    assert json.loads(again.stdout)["version"] == outcome["version"]
    folder = Path(outcome["folder"])
    assert folder == tmp_path / "encoders" / outcome["version"]
    assert json.loads((folder / "card.json").read_text())["mean_cosine"] > 0.98
    kept = Encoder(find_weights(str(folder)))
    assert kept.version == outcome["version"]
    assert np.isfinite(kept.encode(["heart"])).all()


def test_what_cannot_be_exported_is_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="ONNX already"):
        check_exportable(find_weights("all-MiniLM-L6-v2-int8"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'recmesh\[export\]'"):
        check_exportable(find_weights(str(base)))
