"""What an encoder learns from: anchors and the texts that answer them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Float32, Int64


@dataclass(frozen=True)
class Examples:
    """Anchors (queries, titles, citing texts), texts, and which text answers which anchor."""

    anchors: Sequence[str]
    texts: Sequence[str]
    answers: Sequence[Mapping[int, float]]
    """Of each anchor: positions in ``texts``, and how likely each is drawn (above 0)."""
    negatives: Sequence[Sequence[int]] = ()
    """Of each anchor: texts that look right and are not; empty: none were mined."""

    @property
    def data_hash(self) -> str:
        """Over the whole content."""
        digest = hashlib.sha256()
        for part in (self.anchors, self.texts, self.negatives):
            digest.update(json.dumps([*part]).encode())
        digest.update(json.dumps([sorted(answer.items()) for answer in self.answers]).encode())
        return digest.hexdigest()[:16]

    def batch(self, seed: int, step: int, size: int) -> Batch:
        """The batch of a step: anchors in an order drawn anew every epoch.

        Depends on nothing but its arguments, so that a run can go on anywhere.
        """
        per_epoch = max(len(self.anchors) // size, 1)
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(self.anchors))
        rows = order[place * size : (place + 1) * size]
        rng = np.random.default_rng([seed, epoch, place])
        drawn = [_draw(self.answers[row], rng) for row in rows]
        hard = [
            int(rng.choice(self.negatives[row]))
            for row in rows
            if self.negatives and len(self.negatives[row])
        ]
        columns = [*drawn, *hard]
        compared = np.array(
            [
                [
                    # Another's answer that answers this anchor too is no negative.
                    column == place or text not in self.answers[row]
                    for column, text in enumerate(columns)
                ]
                for place, row in enumerate(rows)
            ]
        )
        return Batch(
            [self.anchors[row] for row in rows], [self.texts[text] for text in columns], compared
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Anchor ``i`` is answered by text ``i``; further texts are hard negatives."""

    anchors: list[str]
    texts: list[str]
    compared: npt.NDArray[np.bool_]
    """``[anchors, texts]``: the anchor's own text and those that do not answer it."""


def _draw(answers: Mapping[int, float], rng: np.random.Generator) -> int:
    weights = np.fromiter(answers.values(), np.float64, len(answers))
    return int(rng.choice(np.fromiter(answers, np.int64), p=weights / weights.sum()))


def mine_negatives(
    examples: Examples, score: Callable[[str], Float32], skip: int = 10, kept: int = 20
) -> list[list[int]]:
    """Texts that rank high for an anchor and do not answer it (Xiong et al. 2021).

    Args:
        examples: whose anchors are asked.
        score: of all texts for an anchor ``[texts]``; NaN: not found.
        skip: best ranks left alone: what is judged by few often answers there too.
        kept: texts kept for each anchor.
    """
    mined = []
    for anchor, answers in zip(examples.anchors, examples.answers, strict=True):
        scores = score(anchor)
        order: Int64 = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
        wrong = [int(row) for row in order[: skip + kept + len(answers)] if row not in answers]
        mined.append([row for row in wrong[skip : skip + kept] if not np.isnan(scores[row])])
    return mined
