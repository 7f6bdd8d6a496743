"""Score drift: a model whose scores are spread otherwise than before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, measure
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import Float64, ServingLog

BOUNDS = Bounds(allowed=0.1, severe=0.25, worse="above")
BINS = 10
LEAST_SHARE = 1e-3


def stability_index(before: Float64, after: Float64) -> Float64:
    """Σ (q − p) ln(q / p) over bins, the population stability index; counts ``[..., bins + 1]``.

    Shares below 0.1% count as that, so that an empty bin costs no infinity. The last column, the
    sum of scores, is not part of it.
    """
    shares = []
    for counts in (before[..., :-1], after[..., :-1]):
        total = np.maximum(counts.sum(axis=-1, keepdims=True), 1.0)
        shares.append(np.maximum(counts / total, LEAST_SHARE))
    p, q = shares
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1), np.float64)


def _mean(sums: Float64) -> Float64:
    return np.asarray(sums[..., -1] / np.maximum(sums[..., :-1].sum(axis=-1), 1.0), np.float64)


def score_drift(log: ServingLog) -> Sequence[Answer]:
    """One number for every scorer."""
    if not log.scorers:
        return [TooFew("", "no decision records: recorded events have no scores")]
    slots = log.slots
    answers: list[Answer] = []
    for at, name in enumerate(log.scorers):
        score = slots.scores[:, at].astype(np.float64)
        kept = np.isfinite(score)
        early = kept & (slots.unix_s < log.middle_unix_s)
        if not early.any():
            answers.append(TooFew(f"model {name}", "no score in the first half"))
            continue
        edges = np.unique(np.quantile(score[early], np.linspace(0, 1, BINS + 1)[1:-1]))
        bins = np.searchsorted(edges, score[kept], side="right")
        columns = np.zeros((int(kept.sum()), len(edges) + 2))
        columns[np.arange(len(columns)), bins] = 1.0
        columns[:, -1] = score[kept]
        rows = Rows(slots.doctor[kept], slots.unix_s[kept], slots.surface[kept], columns)
        answers.append(
            measure(
                log,
                rows,
                _mean,
                BOUNDS,
                change=stability_index,
                subject=f"model {name}",
            )
        )
    return answers


CHECK = Check(
    id="score-drift",
    title="Score drift",
    measures="Population stability index of a model's calibrated scores of shown items, second "
    "half of the period against the first, tenths of the first.",
    source="Siddiqi 2006: 0.1 to 0.25 is some shift, above is large; without bias by the jackknife",
    unit="number",
    sentence="The scores of {subject} have shifted: stability index {value}.",
    lever="Compare versions (recmesh status) and retrain (recmesh retrain); if a new version went "
    "live, its calibration is not the old one's.",
    run=score_drift,
    level="mean score",
    level_unit="number",
)
