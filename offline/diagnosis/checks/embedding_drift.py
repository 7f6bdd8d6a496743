"""Embedding drift: what doctors turn to moves to another place of the embedding space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, measure
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import Float64, ServingLog

BOUNDS = Bounds(allowed=0.05, severe=0.15, worse="above")


def moved(before: Float64, after: Float64) -> Float64:
    """Squared distance of the halves' mean vectors, over the mean squared length.

    Vectors have length 1, so that is the distance over 1; the linear-kernel maximum mean
    discrepancy (Gretton et al. 2012).

    Args:
        before: sums of vectors and, last, their number ``[..., dim + 1]``.
        after: the same.
    """
    means = [half[..., :-1] / np.maximum(half[..., -1:], 1.0) for half in (before, after)]
    return np.asarray(np.square(means[0] - means[1]).sum(axis=-1), np.float64)


def _concentration(sums: Float64) -> Float64:
    """Length of the mean vector: 1 where all vectors are alike."""
    mean = sums[..., :-1] / np.maximum(sums[..., -1:], 1.0)
    return np.asarray(np.sqrt(np.square(mean).sum(axis=-1)), np.float64)


def embedding_drift(log: ServingLog) -> Sequence[Answer]:
    """Of what is shown, and of what is turned to."""
    if log.items.vectors is None:
        return [TooFew("", "no item vectors: train nlp first")]
    slots, vectors = log.slots, log.items.vectors
    answers = []
    for subject, kept in (
        ("what is shown", log.browsed),
        ("what doctors turn to", log.browsed & slots.clicked),
    ):
        own = vectors[slots.item[kept]].astype(np.float64)
        columns = np.hstack([own, np.ones((len(own), 1))])
        rows = Rows(slots.doctor[kept], slots.unix_s[kept], slots.surface[kept], columns)
        answers.append(
            measure(log, rows, _concentration, BOUNDS, change=moved, subject=subject, sliced=False)
        )
    return answers


CHECK = Check(
    id="embedding-drift",
    title="Embedding drift",
    measures="Squared distance between the mean item vectors of the period's halves; vectors have "
    "length 1.",
    source="linear-kernel MMD, Gretton et al. 2012; as a drift test: Rabanser et al. 2019",
    unit="number",
    sentence="In the embedding space {subject} moved by {value}: models learnt elsewhere.",
    lever="Retrain (recmesh retrain); if an embedding version was switched, verify it "
    "(recmesh embed verify) or go back (recmesh embed switch).",
    run=embedding_drift,
    level="length of the mean vector",
    level_unit="number",
)
