"""A home folder whose doctors have one of two tastes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recmesh.storage.ingest import ingest
from tests.small_world import NOW_UNIX_S, write_table


def make_home(folder: Path, swap_tastes_from: datetime | None = None) -> Path:
    """Even doctors read the a items, odd ones the b items, at an even pace.

    From ``swap_tastes_from`` on it is the other way round.
    """
    source, home = folder / "source", folder / "home"
    source.mkdir()
    rng = np.random.default_rng(0)
    names = [f"{taste}{n}" for taste in "ab" for n in range(10)]
    events = []
    for user in range(40):
        order = rng.permutation(10)
        start = int(rng.integers(0, 600_000))
        events += [
            {
                "event_id": f"{user}-{item}",
                "user_id": f"u{user:02}",
                "item_id": f"{'ab'[user % 2]}{item}",
                "event_type": "click",
                "time": datetime.fromtimestamp(NOW_UNIX_S + start + 40_000 * n, UTC),
            }
            for n, item in enumerate(order)
        ]
    for event in events:
        if swap_tastes_from is not None and event["time"] >= swap_tastes_from:
            event["item_id"] = event["item_id"].translate(str.maketrans("ab", "ba"))
    ties = [
        {"source_user_id": f"u{u:02}", "target_user_id": f"u{u + 2:02}", "edge_type": "follow"}
        for u in range(38)
    ]
    write_table(source, "items", [{"item_id": i, "content_type": "c", "title": i} for i in names])
    write_table(source, "users", [{"user_id": f"u{u:02}"} for u in range(40)])
    write_table(source, "events", sorted(events, key=lambda event: event["time"]))
    write_table(source, "edges", ties)
    ingest(source, home / "dataset")
    return home
