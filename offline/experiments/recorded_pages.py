"""The pages of an interleaved experiment, and who picked what was wanted on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.offline.experiments.preference import Float64, Int64
from recmesh.orchestrator.experiments.experiment import Experiment


@dataclass(frozen=True)
class RecordedPages:
    """Pages of which an event is recorded."""

    credit: Float64
    """Items wanted that the second arm picked, less those of the first ``[pages]``."""
    unit: Int64
    """Whose page it is ``[pages]``, from 0."""
    units: int
    began: Mapping[str, int]
    """Pages whose first slot each arm picked, as far as impressions tell: the coin."""
    wanted: Mapping[str, int]
    """Items wanted that each arm picked, and the other would not have."""
    shown: Mapping[str, int]
    """Slots with an impression that each arm picked, and the other would have filled otherwise."""
    policies: Sequence[str]
    """Versions of both arms' policies as pages name them."""
    first_unix_s: float
    last_unix_s: float


def recorded_pages(events: pa.Table, experiment: Experiment, credit: str) -> RecordedPages:
    """From events as :meth:`~recmesh.storage.recorded_arms.RecordedArms.events` reads them.

    An item counts once a page, however often it was clicked on.

    Args:
        events: of the experiment.
        experiment: with two arms.
        credit: type of the event that speaks for an item.
    """
    first, second = (arm.name for arm in experiment.arms)
    of_slots = events.filter(pc.greater(events["rank"], 0))
    pages = of_slots.group_by("request_id").aggregate([("user_id", "min")])
    ids = pages["request_id"].combine_chunks()
    picked = events.filter(pc.is_in(events["arm"], value_set=pa.array([first, second])))
    for_item = picked.filter(pc.equal(picked["event_type"], credit))
    for_item = for_item.group_by(["request_id", "item_id", "arm"]).aggregate([])
    rows = pc.index_in(for_item["request_id"], value_set=ids).to_numpy().astype(np.int64)
    sign = np.where(np.asarray(for_item["arm"].to_pylist(), object) == second, 1.0, -1.0)
    users = pages["user_id_min"].combine_chunks().dictionary_encode()
    seen = picked.filter(pc.equal(picked["event_type"], "impression"))
    began = seen.filter(pc.equal(seen["rank"], 1)) if seen.num_rows else seen
    moments = of_slots["time_ms"].to_numpy() / 1000
    return RecordedPages(
        credit=np.bincount(rows, sign, minlength=len(ids)).astype(np.float64),
        unit=users.indices.to_numpy().astype(np.int64),
        units=len(users.dictionary),
        began=_by_arm(began, first, second),
        wanted=_by_arm(for_item, first, second),
        shown=_by_arm(seen, first, second),
        policies=sorted(v for v in pc.unique(of_slots["policy_version"]).to_pylist() if v),
        first_unix_s=float(moments.min(initial=np.inf)) if len(moments) else 0.0,
        last_unix_s=float(moments.max(initial=0.0)),
    )


def _by_arm(events: pa.Table, *arms: str) -> dict[str, int]:
    return {arm: int(pc.sum(pc.equal(events["arm"], arm)).as_py() or 0) for arm in arms}
