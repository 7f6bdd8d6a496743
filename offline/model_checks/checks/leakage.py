"""Leakage: training until a moment uses nothing after it."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmesh.models.interactions import read_interactions
from recmesh.offline.evaluation.served_scores import scores_of
from recmesh.offline.evaluation.temporal_split import EarlierDataset, quantile_moment
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.judged_period import serving, trained
from recmesh.offline.model_checks.opinions import SAME, Float64, difference
from recmesh.offline.model_checks.result import NotCheckedError, Result, measured
from recmesh.offline.model_checks.subject import Subject
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

LAST = 0.2
"""Share of the positive events that lies after the moment."""
MOST_USERS = 400
"""Whose events are trained on: what leaks, leaks from few as from many."""
ASKED_USERS = 50


def of_some_users(dataset: Dataset, seed: int, folder: Path) -> Dataset:
    """The data set with events and edges of at most 400 users, in files in ``folder``."""
    user_ids = read_interactions(dataset).user_ids
    drawn = np.random.default_rng(seed).permutation(len(user_ids))[:MOST_USERS]
    kept = pa.array([user_ids[place] for place in drawn], pa.string())
    tables = {
        "items": dataset.items,
        "users": dataset.users,
        "events": dataset.events.filter(pc.is_in(dataset.events["user_id"], value_set=kept)),
        "edges": dataset.edges.filter(pc.is_in(dataset.edges["source_user_id"], value_set=kept)),
    }
    files = {name: folder / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        pq.write_table(table, files[name])
    return Dataset("model-check", files)


async def leakage(subject: Subject) -> Result:
    """Trains until a moment on the whole log, and on the log cut there."""
    subject.its_folder()
    with tempfile.TemporaryDirectory(prefix="recmesh-model-check-") as scratch:
        whole = of_some_users(subject.its_dataset(), subject.seed, Path(scratch))
        try:
            moment = quantile_moment(read_interactions(whole), LAST)
        except DataError as error:
            raise NotCheckedError(str(error)) from error
        cut = EarlierDataset.of(whole, moment)
        expected = _scores(subject, cut, cut, moment)
        apart = difference(expected, _scores(subject, whole, cut, moment))
        repeated = apart <= SAME or difference(expected, _scores(subject, cut, cut, moment)) <= SAME
    said = f"{moment:%Y-%m-%d %H:%M}"
    if not np.isfinite(expected).any():
        raise NotCheckedError("trained on a part of the log, it has no opinion on anybody")
    if not repeated:
        return measured(
            apart,
            SAME,
            "relative",
            passed="",
            failed="training cannot be repeated: the same data and seed gave other scores, so "
            "leakage cannot be seen",
            fix="Draw every random number in train from options.seed.",
        )
    return measured(
        apart,
        SAME,
        "relative",
        passed=f"trained until {said}, the log beyond it made no difference",
        failed=f"it learned from events after the moment it was to stop at: trained until {said}, "
        f"scores differ by {apart:.2g} with and without the later events",
        fix="In train, drop events at or after options.until and edges made then before anything "
        "is computed from them: counts, vocabularies, splits and choices of settings, too.",
    )


def _scores(subject: Subject, learned: Dataset, known: Dataset, moment: datetime) -> Float64:
    folder = subject.its_folder()
    made = trained(folder, learned, moment, subject.home, subject.seed, subject.progress)
    events = read_interactions(known)
    scores = scores_of(
        serving(folder, made),
        UserStore(known),
        events.user_ids[:ASKED_USERS],
        events.item_ids,
        int(moment.timestamp()),
    )
    return np.asarray(scores, np.float64)


CHECK = Check(
    id="leakage",
    title="Learns nothing from the future",
    measures=f"train(until=T) on the log of up to {MOST_USERS} users and on the same log cut at T "
    f"(its last {LAST:.0%} is later), one seed; largest relative difference of scores, at most "
    f"{SAME:g}.",
    why="A model that has seen the test looks better offline than it will ever be.",
    run=leakage,
    trains=True,
)
