"""Popularity bias: pages that are more popular than what their doctors turn to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, columns_of, measure, ratio
from recmesh.offline.diagnosis.finding import Answer
from recmesh.offline.diagnosis.serving_log import Float64, ServingLog
from recmesh.offline.metrics.exposure import gini

BOUNDS = Bounds(allowed=1.5, severe=2.0, worse="above")
LEAST_HISTORY = 3


def _popularity(log: ServingLog) -> tuple[Float64, Float64]:
    """Doctors who turned to each item before ``[items]``, and its mean over each history.

    A doctor's own turn does not count for what is in their history.
    """
    history = log.doctors.history
    turned = np.asarray(history.sum(axis=0), np.float64).ravel()
    sizes = np.asarray(history.sum(axis=1), np.float64).ravel()
    own = np.asarray(history @ (turned - 1.0)).ravel() / np.maximum(sizes, 1)
    return turned, np.where(sizes >= LEAST_HISTORY, own, np.nan)


def popularity_bias(log: ServingLog) -> Sequence[Answer]:
    """Popularity of what is shown over that of the doctor's own history."""
    turned, own = _popularity(log)
    slots = log.slots
    usual = own[slots.doctor]
    kept = log.browsed & np.isfinite(usual)
    weight = log.attention
    rows = Rows(
        slots.doctor,
        slots.unix_s,
        slots.surface,
        columns_of(weight * turned[slots.item], weight * np.nan_to_num(usual)),
    ).at(kept)
    attention: Float64 = np.bincount(
        slots.item[log.browsed], weight[log.browsed], minlength=len(log.items)
    ).astype(np.float64)
    uneven = f"Gini of attention over items {float(gini(attention)):.2f}"
    return [measure(log, rows, ratio(), BOUNDS, note=uneven, times=True)]


CHECK = Check(
    id="popularity-bias",
    title="Popularity bias",
    measures="Earlier readers of shown items, over those of the doctor's own earlier items.",
    source="group average popularity: Abdollahpouri et al. 2020; Gini: Fleder & Hosanagar 2009",
    unit="times",
    sentence="Pages are {value} as popular as what their doctors turned to themselves before.",
    lever="Lower popular in model_weights, raise novelty in objective_weights, and look at which "
    "model's scores follow popularity (recmesh evaluate: popularity lift by model).",
    run=popularity_bias,
)
