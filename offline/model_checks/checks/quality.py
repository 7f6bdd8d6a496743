"""Quality: better pages than the declared baseline, on later events."""

from __future__ import annotations

import numpy as np

from recmesh.models.declaration import ModelDeclaration
from recmesh.offline.evaluation.baselines import item_knn, popularity
from recmesh.offline.evaluation.bootstrap import UserBootstrap
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.result import Result, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.offline.retraining.comparison import SAMPLES, K, ndcg_of


async def quality(subject: Subject) -> Result:
    """nDCG of the model less that of its baseline, in pairs, over users it has an opinion on."""
    folder, judged = subject.its_folder(), subject.judged
    period, scores = judged.period, judged.scores
    name: ModelDeclaration = folder.declaration
    rival = (
        item_knn(period)
        if name.baseline == "item-knn"
        else np.broadcast_to(popularity(period), scores.shape)
    )
    known = np.isfinite(scores).any(axis=1)
    ours, theirs = ndcg_of(scores, period)[known], ndcg_of(rival, period)[known]
    found = UserBootstrap(int(known.sum()), SAMPLES, subject.seed).difference(ours, theirs)
    how = "the artifact" if judged.as_served else "trained before them"
    said = (
        f"nDCG@{K} {ours.mean():.3f}, {name.baseline} {theirs.mean():.3f}: {found.value:+.3f} "
        f"[{found.low:+.3f}, {found.high:+.3f}] on later events of {int(known.sum())} users, "
        f"{how}"
    )
    return measured(
        found.low,
        0.0,
        "nDCG, lower end of the difference",
        passed=said,
        failed=f"it is not shown to beat {name.baseline}: {said}",
        fix="Improve the model, or train it on more events; pages made of what is popular need no "
        "model.",
        bound="above",
    )


CHECK = Check(
    id="quality",
    title="Beats its baseline",
    measures=f"nDCG@{K} less that of the baseline in model.toml, on events later than what was "
    "learned, users in pairs; lower end of the 95% interval, above 0. The artifact itself where "
    "at least 100 users have later events, else its training repeated before the last tenth.",
    why="A model that does not beat a count of readers costs latency and gives nothing.",
    run=quality,
    trains=True,
)
