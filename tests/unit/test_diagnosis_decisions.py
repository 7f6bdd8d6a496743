"""What decision records add: pages as they were answered, and the scores of what was shown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recmesh.offline.diagnosis.checks.short_slates import short_slates
from recmesh.offline.diagnosis.decision_source import PageRecords, with_records
from recmesh.offline.diagnosis.event_source import Settings, serving_log
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import recommendation_pb2
from tests.small_world import FunctionModel, dataset
from tests.tiny_serving_log import tiny_log, with_pages
from tests.unit.test_decisions import feed, mesh_of, recorded, snapshot  # noqa: F401
from tests.unit.test_diagnosis_sources import events, shown


async def asked(mesh: Mesh, **fields: Any) -> recommendation_pb2.RecommendResponse:
    return await recommend(mesh, feed(**fields), math.inf)


async def test_slots_have_the_scores_that_their_page_was_blended_from(
    snapshot: Snapshot,  # noqa: F811
    tmp_path: Any,
) -> None:
    mesh = mesh_of(snapshot)
    page = await asked(mesh)
    rows = [
        shown(slot.item_id, slot.rank / 60, rank=slot.rank, request_id="r1")
        for slot in page.recommendations
    ]
    other = shown("i30", 1, request_id="another")
    records = PageRecords.of(recorded(mesh))
    log = serving_log(dataset(tmp_path), events(*rows, other), Settings(), records=records)
    assert {"cf", "behavioral", "nlp", "popular"} <= set(log.scorers)
    known = np.isfinite(log.slots.scores).any(axis=1)
    assert known.tolist() == [True] * len(rows) + [False]
    decision = recorded(mesh)[0]
    matrix, chosen = decision.considered.scores.of_request, decision.slate.chosen
    column = matrix.scorers.index("cf")
    assert log.slots.scores[: len(rows), log.scorers.index("cf")] == pytest.approx(
        matrix.values[chosen, column]
    )


async def test_a_page_says_which_sources_it_did_without(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = mesh_of(snapshot)
    down = mesh.models.clients["cf"]
    assert isinstance(down, FunctionModel)
    down.failure = UnavailableError("gone")
    await asked(mesh)
    (page,) = PageRecords.of(recorded(mesh)).pages
    assert page.states["cf"]
    assert not page.states["behavioral"]
    assert page.filled == page.requested
    assert page.candidates > page.filled
    assert 0 < page.offered_diversity <= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"candidate_item_ids": ["i1", "i2"]},
        {"filter": recommendation_pb2.Filter(topics=["t1"])},
    ],
)
async def test_a_page_that_its_caller_narrowed_may_be_short(
    snapshot: Snapshot,  # noqa: F811
    fields: dict[str, Any],
) -> None:
    mesh = mesh_of(snapshot)
    await asked(mesh, **fields)
    (page,) = PageRecords.of(recorded(mesh)).pages
    assert page.requested == 0


async def test_a_page_that_was_decided_again_is_one_page(
    snapshot: Snapshot,  # noqa: F811
) -> None:
    mesh = mesh_of(snapshot)
    await asked(mesh, page_size=4)
    await asked(mesh, page_size=6)
    as_made = sorted(recorded(mesh), key=lambda one: one.considered.made_at_unix_ms)
    (page,) = PageRecords.of(as_made).pages
    assert page.filled == 6


def test_pages_of_other_times_are_left_out() -> None:
    log = replace(tiny_log(), pages=None, scorers=[], sources=[])
    found = with_records(log, PageRecords(), [""] * len(log.slots))
    assert found.pages is not None
    assert len(found.pages) == 0
    assert found.slots.scores.shape == (len(log.slots), 0)


def test_pages_that_may_be_short_are_not_judged() -> None:
    log = tiny_log()
    assert log.pages is not None
    nothing = np.zeros_like(log.pages.requested)
    answers = short_slates(with_pages(log, requested=nothing, filled=nothing))
    assert all(hasattr(answer, "why") for answer in answers)
