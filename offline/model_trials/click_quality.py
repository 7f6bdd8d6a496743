"""Which version of a model would have told better what was clicked on pages that were shown.

Of every recorded page the items that were shown are scored anew by both versions, from what was
known of the doctor then, and the scores are held against the clicks that came: the probability that
a clicked item has a higher score than one of the same page that was not clicked (the area under the
ROC curve of each page; Hanley & McNeil, Radiology 1982), ties count half.

The live version took part in choosing what was shown, so among these items it has shown its
differences already: the comparison leans towards a version that ranks *unlike* it, and says nothing
of what would have been shown instead. It tells whether a version is fit for a canary, not more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.models.model import Context, Model, User
from recmesh.offline.evaluation.bootstrap import Interval, UserBootstrap
from recmesh.orchestrator.decisions.decision import Decision

Float64 = npt.NDArray[np.float64]

SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class ClickQuality:
    """Mean of doctors' means, with 95% intervals over doctors."""

    pages: int
    """With a click, and an item that was not clicked."""
    doctors: int
    live: Interval
    trial: Interval
    difference: Interval
    """The trial's minus the live version's, in pairs."""


def click_auc(scores: Float64, clicked: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve of a page ``[n]``; an item without an opinion (NaN) is below all.

    At least one item is clicked and one is not.
    """
    ranked = np.where(np.isfinite(scores), scores, -np.inf)
    of, over = ranked[clicked][:, None], ranked[~clicked][None, :]
    return float(((of > over) + 0.5 * (of == over)).mean())


def _context(decision: Decision) -> Context:
    request = decision.considered.request
    user = request.user
    return Context(
        User(
            user.user_id,
            user.history_item_ids,
            user.history_event_types,
            user.history_times_unix_s,
            user.specialties,
            user.country,
            user.language,
        ),
        request.message.surface,
        request.now_unix_s,
        request.message.query,
    )


def _shown(decision: Decision) -> list[str]:
    considered = decision.considered
    request = considered.request
    rows = considered.candidates.rows[considered.filtered.kept][decision.slate.chosen]
    return [request.catalog.item_ids[row] for row in rows[request.offset :].tolist()]


def click_quality(
    decisions: Iterable[Decision],
    clicks: Mapping[tuple[str, str], float],
    live: Model,
    trial: Model,
    seed: int = 0,
) -> ClickQuality:
    """Compares two versions on recorded pages.

    Args:
        decisions: pages later than everything that either version has learned from.
        clicks: by request and item.
        live: the version that serves.
        trial: the other one.
        seed: of the resamples.
    """
    by_doctor: dict[str, list[tuple[float, float]]] = {}
    pages = 0
    for decision in decisions:
        request = decision.considered.request
        item_ids = _shown(decision)
        clicked = np.array([(request.asked_as, item_id) in clicks for item_id in item_ids], bool)
        if request.drafted_for or not clicked.any() or clicked.all():
            continue
        context = _context(decision)
        aucs = tuple(_scored(model, context, item_ids, clicked) for model in (live, trial))
        by_doctor.setdefault(request.message.user_id, []).append((aucs[0], aucs[1]))
        pages += 1
    if not by_doctor:
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return ClickQuality(0, 0, nothing, nothing, nothing)
    of_live, of_trial = np.array([np.mean(found, axis=0) for found in by_doctor.values()]).T
    bootstrap = UserBootstrap(len(by_doctor), SAMPLES, seed)
    return ClickQuality(
        pages=pages,
        doctors=len(by_doctor),
        live=bootstrap.mean(of_live),
        trial=bootstrap.mean(of_trial),
        difference=bootstrap.difference(of_trial, of_live),
    )


def _scored(
    model: Model, context: Context, item_ids: Sequence[str], clicked: npt.NDArray[np.bool_]
) -> float:
    return click_auc(model.score(context, item_ids).astype(np.float64), clicked)
