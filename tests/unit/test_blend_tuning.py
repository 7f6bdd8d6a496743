from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recmesh.offline.evaluation.blend_tuning import tune_blend
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.served_blend import ServedBlend, blended, popular_scores
from recmesh.orchestrator.blend import UNCALIBRATED, relevance, score_matrix
from recmesh.orchestrator.catalog import item_catalog
from recmesh.storage.dataset import Dataset
from tests.small_world import NOW_UNIX_S, write_table


@pytest.fixture
def week(tmp_path: Path) -> Period:
    """30 users read 3 of 12 items by chance, then i0 … i11 in turn, new to 25 of them."""
    rng = np.random.default_rng(0)
    steps = [(u, int(i), u) for u in range(30) for i in rng.choice(12, 3, replace=False)]
    steps += [(u, u % 12, 1000 + u) for u in range(30)]
    events = [
        {
            "event_id": f"e{n}",
            "user_id": f"u{user:02}",
            "item_id": f"i{item}",
            "event_type": "click",
            "time": datetime.fromtimestamp(NOW_UNIX_S + 3600 * hour, UTC),
        }
        for n, (user, item, hour) in enumerate(steps)
    ]
    items = [{"item_id": f"i{n}", "content_type": "c", "title": "t"} for n in range(12)]
    files = {
        "items": write_table(tmp_path, "items", items),
        "events": write_table(tmp_path, "events", events),
    }
    start = datetime.fromtimestamp(NOW_UNIX_S + 3600 * 1000, UTC)
    end = datetime.fromtimestamp(NOW_UNIX_S + 3600 * 2000, UTC)
    return period(Dataset("v", files), start, end)


def test_the_search_finds_the_scorer_that_knows(week: Period) -> None:
    rng = np.random.default_rng(1)
    shape = (len(week.users), len(week.catalogue))
    knows = rng.normal(size=shape).astype(np.float32) + 3 * week.wanted.toarray()
    raw = {"noise": rng.normal(size=shape).astype(np.float32), "knows": knows.astype(np.float32)}
    tuned = tune_blend(raw, week, 10, seed=0)
    assert tuned.validation_ndcg > 0.9
    assert tuned.blend.weights["knows"] > tuned.blend.weights["noise"]
    assert sum(tuned.blend.weights.values()) == pytest.approx(1.0, abs=1e-3)
    assert tune_blend(raw, week, 10, seed=0).blend.weights == tuned.blend.weights


def test_a_user_is_blended_as_the_mesh_blends_candidates(week: Period) -> None:
    rng = np.random.default_rng(2)
    shape = (len(week.users), len(week.catalogue))
    raw = {name: rng.normal(size=shape).astype(np.float32) for name in ("cf", "network")}
    raw["cf"][:, 3] = np.nan
    weights = {"cf": 0.5, "network": 0.3, "popular": 0.2}
    found = blended(raw, week, ServedBlend(weights, 7.0, {}))
    catalog = item_catalog(week.known, 7.0)
    popular = catalog.popular_scores[catalog.rows(week.catalogue)]
    np.testing.assert_allclose(popular_scores(week, 7.0), popular, rtol=1e-6)
    for user in (0, -1):
        columns = {name: UNCALIBRATED(scores[user]) for name, scores in raw.items()}
        columns["popular"] = popular
        columns["cf"][3] = np.nan
        expected = relevance(score_matrix(columns, shape[1]), weights)
        np.testing.assert_allclose(found[user], expected, rtol=1e-6)
