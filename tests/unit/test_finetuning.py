from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from recmesh.models.nlp.encoder import Encoder, find_weights
from recmesh.models.nlp.finetuning.contrastive import info_nce, pooled
from recmesh.models.nlp.finetuning.examples import Examples, mine_negatives
from recmesh.models.nlp.finetuning.trainer import STATE_FILE, FineTuning, Trainer
from recmesh.storage.errors import ArtifactError, ConfigurationError, DataError
from tests.tiny_encoder import write_tiny_encoder

TOPICS = ["heart", "skin", "lung", "bone", "brain", "kidney"]
WORDS = " ".join(["about", "the", *TOPICS])
EXAMPLES = Examples(
    anchors=TOPICS,
    texts=[f"about the {topic}" for topic in TOPICS],
    answers=[{row: 1.0} for row in range(len(TOPICS))],
)
SETTINGS = FineTuning(steps=6, batch=3, learning_rate=1e-2, checkpoint_every_s=0.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"), WORDS)


def test_pooling_passes_over_padding() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pooled(states, torch.tensor([[1, 1, 0]])).item() == 2.0


def test_the_loss_is_that_of_van_den_oord() -> None:
    torch.manual_seed(0)
    anchors, texts = torch.randn(3, 4), torch.randn(5, 4)
    everything = torch.ones(3, 5, dtype=torch.bool)

    def unit(vectors: Tensor) -> Tensor:
        return vectors / vectors.norm(dim=1, keepdim=True)

    exponents = (unit(anchors) @ unit(texts).T * 20).exp()
    expected = -(exponents[range(3), range(3)] / exponents.sum(dim=1)).log().mean()
    torch.testing.assert_close(info_nce(anchors, texts, everything, 20.0), expected)


def test_what_also_answers_is_no_negative() -> None:
    same = torch.ones(2, 4)
    apart = torch.eye(2, dtype=torch.bool)
    assert info_nce(same, same, apart, 20.0).item() == pytest.approx(0.0)
    assert info_nce(same, same, ~apart | apart, 20.0).item() == pytest.approx(np.log(2))


def test_shorter_vectors_are_asked_too() -> None:
    anchors = torch.tensor([[0.0, 1.0], [0.0, -1.0]]) + 1e-3
    everything = torch.ones(2, 2, dtype=torch.bool)
    whole = info_nce(anchors, anchors, everything, 20.0)
    # The first dimension alone tells nothing apart.
    assert info_nce(anchors, anchors, everything, 20.0, (1,)) > whole + 0.3


def test_an_epoch_asks_every_anchor_once() -> None:
    asked = [anchor for step in range(2) for anchor in EXAMPLES.batch(0, step, 3).anchors]
    assert sorted(asked) == sorted(TOPICS)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, again = EXAMPLES.batch(1, 5, 3), EXAMPLES.batch(1, 5, 3)
    assert first.anchors == again.anchors
    assert first.texts == again.texts
    orders = {tuple(EXAMPLES.batch(seed, 0, 3).anchors) for seed in range(10)}
    assert len(orders) > 1


def test_answers_of_two_anchors_are_not_compared() -> None:
    shared = Examples(["a", "b"], ["x", "y"], [{0: 1.0, 1: 1.0}, {1: 1.0}])
    for step in range(5):
        batch = shared.batch(0, step, 2)
        a = batch.anchors.index("a")
        assert batch.compared[a].sum() == 1
        assert batch.compared.diagonal().all()


def test_hard_negatives_join_the_batch() -> None:
    hard = replace(EXAMPLES, negatives=[[(row + 1) % 6] for row in range(6)])
    batch = hard.batch(0, 0, 2)
    assert len(batch.texts) == 4
    rows = [TOPICS.index(anchor) for anchor in batch.anchors]
    assert batch.texts[2:] == [f"about the {TOPICS[(row + 1) % 6]}" for row in rows]


def test_negatives_are_high_ranks_that_do_not_answer() -> None:
    scores = np.array([6, 5, 4, 3, 2, np.nan], np.float32)
    mined = mine_negatives(
        replace(EXAMPLES, anchors=["q"], answers=[{1: 1.0}]), lambda _: scores, skip=1, kept=3
    )
    assert mined == [[2, 3, 4]]


def test_the_data_hash_covers_answers() -> None:
    changed = replace(EXAMPLES, answers=[{0: 2.0}, *EXAMPLES.answers[1:]])
    assert changed.data_hash != EXAMPLES.data_hash


class KilledError(Exception):
    pass


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in trainer._model.state_dict().items()}


def test_a_run_that_was_stopped_ends_as_one_that_was_not(base: Path, tmp_path: Path) -> None:
    whole = Trainer(base, EXAMPLES, SETTINGS)
    whole.run(tmp_path / "whole")

    def stop(done: float, total: float, message: str) -> None:
        if done == 3:
            raise KilledError

    stopped = Trainer(base, EXAMPLES, SETTINGS)
    with pytest.raises(KilledError):
        stopped.run(tmp_path / "stopped", stop)
    resumed = Trainer(base, EXAMPLES, SETTINGS)
    resumed.run(tmp_path / "stopped")
    assert resumed.losses == whole.losses
    for name, weight in _weights(whole).items():
        torch.testing.assert_close(_weights(resumed)[name], weight, rtol=0, atol=0)


KILLED = """
import sys, time
from pathlib import Path
from recmesh.models.nlp.finetuning.trainer import Trainer
from tests.unit.test_finetuning import EXAMPLES, SETTINGS
trainer = Trainer(Path(sys.argv[1]), EXAMPLES, SETTINGS)
trainer.run(Path(sys.argv[2]), lambda done, total, message: done < 3 or time.sleep(60))
"""


def test_a_run_killed_without_warning_ends_as_one_that_was_not(base: Path, tmp_path: Path) -> None:
    whole = Trainer(base, EXAMPLES, SETTINGS)
    whole.run(tmp_path / "whole")
    words = [sys.executable, "-c", KILLED, str(base), str(tmp_path / "killed")]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[2])
    state = tmp_path / "killed" / STATE_FILE
    while not state.is_file() or _step(state) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    resumed = Trainer(base, EXAMPLES, SETTINGS)
    resumed.run(tmp_path / "killed")
    # Another process may sum on another number of threads, so the last bits may differ.
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-2)


def _step(state: Path) -> int:
    with safe_open(state, framework="pt") as stored:
        return int(json.loads(stored.metadata()["progress"])["step"])


def test_training_learns(base: Path, tmp_path: Path) -> None:
    trainer = Trainer(base, EXAMPLES, replace(SETTINGS, steps=60, checkpoint_every_s=60))
    trainer.run(tmp_path)
    assert np.mean(trainer.losses[-10:]) < 0.5 * np.mean(trainer.losses[:10])


def test_what_is_written_is_an_encoder(base: Path, tmp_path: Path) -> None:
    trainer = Trainer(base, EXAMPLES, SETTINGS)
    trainer.write(tmp_path / "written")
    texts = ["heart", "skin"]
    made = Encoder(find_weights(str(tmp_path / "written"))).encode(texts)
    np.testing.assert_allclose(made, Encoder(find_weights(str(base))).encode(texts), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no safetensors"])
def test_a_damaged_state_is_named(base: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        Trainer(base, EXAMPLES, SETTINGS).run(tmp_path)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"batch": 1}, {"learning_rate": 0.0}])
def test_settings_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        replace(SETTINGS, **bad)


def test_too_few_examples_are_refused(base: Path) -> None:
    with pytest.raises(DataError, match="fewer"):
        Trainer(base, EXAMPLES, replace(SETTINGS, batch=7))


def test_a_matryoshka_dimension_is_below_the_encoders(base: Path) -> None:
    with pytest.raises(ConfigurationError, match="dims"):
        Trainer(base, EXAMPLES, replace(SETTINGS, dims=(16,)))
