"""Fine-tunes an encoder, and keeps it only if it ranks unseen queries better."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from recmesh.models.model import Float32, Progress
from recmesh.models.nlp.encoder import Encoder, Weights, find_weights
from recmesh.models.nlp.finetuning.examples import Examples, mine_negatives
from recmesh.models.nlp.finetuning.trainer import FineTuning, Trainer
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.offline.datasets.judged_queries import Query
from recmesh.offline.evaluation.bootstrap import Interval, UserBootstrap
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.evaluate import best, figures
from recmesh.offline.search.legs import Words
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

BASE = "all-MiniLM-L6-v2"
HELD_OUT = 10
"""One anchor of so many is held out to judge on, where no judged queries are named."""
BOOTSTRAP_SAMPLES = 1000
DEEPEST = 100
CARD_FILE = "card.json"


class HardNegatives(StrEnum):
    """What looks right and is not, found by …"""

    NONE = "none"
    BM25 = "bm25"
    ENCODER = "encoder"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What fine-tuning came to."""

    adopted: bool
    version: str
    """Of the published encoder; empty when it was refused."""
    folder: str
    base: str
    judged_on: str
    queries: int
    base_ndcg_at_10: Interval
    ndcg_at_10: Interval
    gain: Interval
    """Paired, query by query. Above 0 throughout: adopted."""
    recall_gain: Interval
    parameters: dict[str, Any]
    data_hash: str
    last_loss: float


def split_off(examples: Examples) -> tuple[Examples, SearchCollection]:
    """Examples to learn from, and one anchor of ten to be judged on, by a hash of its text."""

    def held(anchor: str) -> bool:
        return hashlib.blake2b(anchor.encode()).digest()[0] % HELD_OUT == 0

    pairs = list(zip(examples.anchors, examples.answers, strict=True))
    learned = [pair for pair in pairs if not held(pair[0])]
    judged = [pair for pair in pairs if held(pair[0])]
    ids = [str(row) for row in range(len(examples.texts))]
    collection = SearchCollection(
        item_ids=ids,
        titles=examples.texts,
        abstracts=[""] * len(ids),
        queries=[Query(str(row), anchor, "held out") for row, (anchor, _) in enumerate(judged)],
        grades=[{ids[text]: 1 for text in answers} for _, answers in judged],
        earlier=[],
    )
    kept = replace(
        examples, anchors=[anchor for anchor, _ in learned], answers=[a for _, a in learned]
    )
    return kept, collection


def finetune(
    examples: Examples,
    judged: SearchCollection,
    judged_on: str,
    home: Home,
    settings: FineTuning,
    *,
    base: str = BASE,
    hard_negatives: HardNegatives = HardNegatives.NONE,
    steps: Callable[[str], Progress],
) -> Outcome:
    """Trains, judges, and publishes below ``home.encoders`` or refuses.

    A run that was stopped goes on: its state is found by base, data and settings.

    Args:
        examples: what is learned from; no anchor may be a judged query.
        judged: queries that neither the examples nor any choice has seen.
        judged_on: what they are, for people.
        home: where encoders and vectors are kept.
        settings: how to train.
        base: name or Hugging Face folder of the encoder to start from.
        hard_negatives: how they are found, once, before training.
        steps: gives each stage its progress.

    Raises:
        ConfigurationError: the base cannot be trained, or a judged query is an example.
        DataError: there are too few examples.
        ArtifactError: the state of a stopped run is damaged.
    """
    shared = {q.text.casefold() for q in judged.queries} & {
        anchor.casefold() for anchor in examples.anchors
    }
    if shared:
        raise ConfigurationError(
            f"{len(shared)} of {len(judged.queries)} judged queries are also examples; judge on "
            "others"
        )
    weights = find_weights(base)
    if weights.file.suffix == ".onnx":
        raise ConfigurationError(f"{base} is quantised and cannot be trained; use {BASE}")
    before = Encoder(weights)
    key = json.dumps(
        [before.version, examples.data_hash, hard_negatives.value, _parameters(settings)]
    )
    run = home.encoders / ".training" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if hard_negatives is not HardNegatives.NONE:
        examples = replace(
            examples, negatives=_mined(examples, hard_negatives, before, home, steps("mining"))
        )
    trainer = Trainer(weights.tokenizer, examples, settings)
    trainer.run(run, steps("training"))
    candidate = run / "encoder"
    trainer.write(candidate)

    # The name is the base's: two encoders of one name differ in their hash.
    after = Encoder(Weights(_name(weights.name), candidate / weights.file.name, candidate))
    base_figures = figures(judged, _rankings(judged, before, steps("judging base")))
    tuned_figures = figures(judged, _rankings(judged, after, steps("judging")))
    resampled = UserBootstrap(len(judged.queries), BOOTSTRAP_SAMPLES, settings.seed)
    gain = resampled.difference(tuned_figures.ndcg, base_figures.ndcg)
    outcome = Outcome(
        adopted=gain.low > 0.0,
        version="",
        folder="",
        base=before.version,
        judged_on=judged_on,
        queries=len(judged.queries),
        base_ndcg_at_10=resampled.mean(base_figures.ndcg),
        ndcg_at_10=resampled.mean(tuned_figures.ndcg),
        gain=gain,
        recall_gain=resampled.difference(tuned_figures.recall, base_figures.recall),
        parameters={**_parameters(settings), "hard_negatives": hard_negatives.value},
        data_hash=examples.data_hash,
        last_loss=trainer.losses[-1],
    )
    if outcome.adopted:
        target = home.encoders / after.version
        outcome = replace(outcome, version=after.version, folder=str(target))
        (candidate / CARD_FILE).write_text(json.dumps(asdict(outcome), indent=2))
        if not target.exists():
            candidate.replace(target)
    shutil.rmtree(run)
    return outcome


def _name(base: str) -> str:
    return base if base.endswith("-tuned") else f"{base}-tuned"


def _parameters(settings: FineTuning) -> dict[str, Any]:
    parameters = asdict(settings)
    del parameters["checkpoint_every_s"]  # changes nothing that is learned
    return parameters


def _mined(
    examples: Examples, how: HardNegatives, encoder: Encoder, home: Home, progress: Progress
) -> list[list[int]]:
    if how is HardNegatives.BM25:
        return mine_negatives(examples, Words(examples.texts).scores)
    texts = encode_cached(encoder, examples.texts, home.text_vectors, progress)
    anchors = encode_cached(encoder, examples.anchors, home.text_vectors, progress)
    rows = {anchor: row for row, anchor in enumerate(examples.anchors)}
    return mine_negatives(examples, lambda anchor: texts @ anchors[rows[anchor]])


def _rankings(judged: SearchCollection, encoder: Encoder, progress: Progress) -> list[list[int]]:
    vectors = encoder.encode([*judged.texts, *(query.text for query in judged.queries)], progress)
    texts, queries = vectors[: len(judged.texts)], vectors[len(judged.texts) :]
    scores: Float32 = queries @ texts.T
    return [list(best(np.asarray(row), DEEPEST)) for row in scores]
