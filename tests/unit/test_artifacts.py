from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recmesh.storage.artifacts import ArtifactStore, ModelCard
from recmesh.storage.errors import ArtifactError, NotFoundError


def card(seed: int = 0) -> ModelCard:
    return ModelCard(
        model="cf",
        owner="nobody",
        summary="test",
        dataset_version="d",
        trained_until="",
        seed=seed,
    )


def test_publishing_is_content_addressed_and_live(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    tensors = {"factors": np.arange(6, dtype=np.float32).reshape(2, 3)}
    strings = {"item_ids": ["a", "ü"]}
    first = store.publish(card(), tensors, strings)
    assert store.publish(card(), tensors, strings) == first
    second = store.publish(card(seed=1), tensors, strings)
    assert second != first
    assert store.live_version("cf") == second
    artifact = store.load("cf", first)
    assert artifact.strings == strings
    np.testing.assert_array_equal(artifact.tensors["factors"], tensors["factors"])
    assert artifact.card == card()


def test_a_missing_or_damaged_artifact_says_what_to_do(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(NotFoundError, match="recmesh train cf"):
        store.load("cf")
    version = store.publish(card(), {"x": np.zeros(3)}, {})
    (tmp_path / "cf" / version / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ArtifactError, match="damaged"):
        store.load("cf")
