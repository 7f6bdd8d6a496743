"""The gate's rules, and what they are fed with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recmesh.cli.retraining_shadow import PATIENCE_S
from recmesh.models.model import Context, Description, Float32, Model
from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.retraining.comparison import Comparison, Protocol, compared, period_to_judge
from recmesh.offline.retraining.gate import quality_checks, sanity_checks, shadow_checks
from recmesh.offline.retraining.sanity import Sample, Sanity, checked
from recmesh.offline.retraining.shadow import Shadow, recent_requests, shadowed
from recmesh.orchestrator.policy import Policy
from recmesh.storage.artifacts import Artifact, ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import common_pb2, recommendation_pb2
from tests.small_world import ingested_home, tastes_home

CALIBRATION = {"raw_scores": [0.0, 1.0], "probabilities": [0.1, 0.9]}
SANE = Sanity(10, 20, 0, 0, 1.0, 5, 1.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(tastes_home(tmp_path_factory.mktemp("tastes")) / "dataset")


def difference(low: float, value: float, high: float) -> Comparison:
    return Comparison(
        Protocol.AS_SERVED,
        "",
        "",
        100,
        candidate=Interval(0.2 + value, 0, 1),
        live=Interval(0.2, 0, 1),
        difference=Interval(value, low, high),
    )


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (difference(-0.01, 0.01, 0.03), True),
        (difference(-0.03, -0.01, 0.01), True),
        (difference(0.0, 0.0, 0.0), True),
        (difference(-0.03, -0.02, -0.001), False),
        (difference(-0.1, -0.021, 0.05), False),
    ],
)
def test_worse_is_an_interval_below_zero_or_a_loss_of_a_tenth(
    found: Comparison, passes: bool
) -> None:
    assert all(check.passed for check in quality_checks(found)) is passes


def test_what_cannot_be_compared_is_refused_and_a_first_version_is_not() -> None:
    blank = difference(0, 0, 0)
    impossible = replace(
        blank, protocol=Protocol.IMPOSSIBLE, live=None, difference=None, why="no such settings"
    )
    (check,) = quality_checks(impossible)
    assert (check.passed, check.found) == (False, "not possible: no such settings")
    assert quality_checks(replace(impossible, protocol=Protocol.FIRST)) == []
    assert Comparison.from_json(vars_of(blank)) == blank
    assert Comparison.from_json(vars_of(impossible)) == impossible


def vars_of(found: Comparison) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(found)


@pytest.mark.parametrize(
    "broken",
    [
        {"nonfinite_weights": 1},
        {"infinite_scores": 1},
        {"opinions": 0.0},
        {"calibration_knots": 0},
        {"users_kept": 0.94},
        {"items_kept": 0.94},
        {"drift": 0.11},
    ],
)
def test_each_rule_refuses_alone(broken: dict[str, float]) -> None:
    assert all(check.passed for check in sanity_checks(SANE))
    failing = [c for c in sanity_checks(replace(SANE, **broken)) if not c.passed]  # type: ignore[arg-type]
    assert len(failing) == 1


def test_a_first_version_has_nothing_to_keep() -> None:
    first = replace(SANE, users_kept=None, items_kept=None, drift=None)
    assert len(sanity_checks(first)) == len(sanity_checks(SANE)) - 3


class Opinion(Model):
    """Likes an item more, the higher its number."""

    def __init__(self, shift: float = 0.0, unknown: str = "", calibrated: bool = True) -> None:
        calibration = CALIBRATION if calibrated else {}
        self.description = Description("m", "1", frozenset(), "o", calibration=calibration)
        self.shift, self.unknown = shift, unknown

    def score(self, context: Context, item_ids: list[str]) -> Float32:  # type: ignore[override]
        scores = np.array([int(i[1:]) / 10 + self.shift for i in item_ids], np.float32)
        scores[[i.startswith(self.unknown) and bool(self.unknown) for i in item_ids]] = np.nan
        return scores


def artifact(weight: float = 0.0) -> Artifact:
    card = ModelCard("m", "o", "s", "v", "", 0, calibration=CALIBRATION)
    tensors = {"w": np.array([weight], np.float32), "ids": np.arange(3)}
    return Artifact("1", card, tensors, {})


def test_sanity_of_one_that_answers_alike_and_of_others(data: Dataset) -> None:
    sample = Sample.of(data, 0)
    same = checked(artifact(), Opinion(), Opinion(), sample)
    assert (same.users_kept, same.items_kept, same.drift) == (1.0, 1.0, 0.0)
    assert (same.users, same.items, same.opinions) == (40, 20, 1.0)
    assert checked(artifact(), Opinion(0.25), Opinion(), sample).drift == pytest.approx(
        0.16, abs=0.05
    )
    assert checked(artifact(), Opinion(unknown="a"), Opinion(), sample).items_kept == 0.5
    assert checked(artifact(), Opinion(), Opinion(unknown="a"), sample).items_kept == 1.0
    assert checked(artifact(), Opinion(np.inf), None, sample).infinite_scores == 800
    assert checked(artifact(np.nan), Opinion(), None, sample).nonfinite_weights == 1
    assert checked(artifact(), Opinion(), Opinion(calibrated=False), sample).drift is None
    assert checked(artifact(), Opinion(np.nan), None, sample).opinions == 0.0


def test_losing_users_is_losing(data: Dataset) -> None:
    judged_on, unseen = period_to_judge(data, None, None)
    assert not unseen
    perfect = judged_on.wanted.toarray().astype(np.float32)
    none = np.full_like(perfect, np.nan)
    half = perfect.copy()
    half[::2] = np.nan
    seed = {"protocol": Protocol.AS_SERVED, "seed": 0}
    equal = compared(judged_on, perfect, perfect, **seed)  # type: ignore[arg-type]
    assert equal.difference == Interval(0.0, 0.0, 0.0)
    assert equal.candidate.value == 1.0
    lost = compared(judged_on, half, perfect, **seed)  # type: ignore[arg-type]
    assert lost.difference is not None
    assert lost.difference.high < 0
    gained = compared(judged_on, perfect, none, **seed)  # type: ignore[arg-type]
    assert gained.live == Interval(0.0, 0.0, 0.0)


def page(items: list[str], *silent: str) -> recommendation_pb2.RecommendResponse:
    found = recommendation_pb2.RecommendResponse()
    for item_id in items:
        found.recommendations.add(item_id=item_id)
    for name in ("cf", "popular"):
        failed = common_pb2.SOURCE_STATE_ERROR if name in silent else common_pb2.SOURCE_STATE_OK
        found.sources.add(name=name, state=failed)
    return found


async def test_shadowed_pages_are_compared_one_by_one() -> None:
    requests = [
        recommendation_pb2.RecommendRequest(surface="feed", user_id=str(n)) for n in range(6)
    ]
    old = {"0": ["a", "b"], "1": ["a"], "2": [], "3": ["a"], "4": ["a"], "5": ["a"]}
    new = {"0": ["b", "c"], "1": [], "2": [], "3": ["a"], "5": ["a"]}

    async def live(request: recommendation_pb2.RecommendRequest) -> object:
        if request.user_id == "5":
            raise UnavailableError("both do")
        return page(old[request.user_id])

    async def candidate(request: recommendation_pb2.RecommendRequest) -> object:
        if request.user_id in ("4", "5"):
            raise UnavailableError("gone")
        return page(new[request.user_id], *(["cf"] if request.user_id == "3" else []))

    found = await shadowed(requests, live, candidate)  # type: ignore[arg-type]
    assert (found.requests, found.errors, found.emptied, found.lacking) == (6, 1, 1, 1)
    assert found.overlap_at_10 == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert found.reasons == {"gone": 1, "cf did not answer": 1}
    assert [check.passed for check in shadow_checks(found)] == [False, False, False]
    assert all(check.passed for check in shadow_checks(Shadow(6)))


def test_recent_requests_are_as_users_made_them(data: Dataset, tmp_path: Path) -> None:
    policy = Policy.load()
    found = recent_requests(data, policy.surfaces, 0)
    assert len(found) == 40, "each once, however often they came"
    assert {request.surface for request in found} == {"feed"}
    assert found == recent_requests(data, policy.surfaces, 0)
    few = Dataset.open(ingested_home(tmp_path).dataset)
    assert {r.user_id for r in recent_requests(few, policy.surfaces, 0)} == {
        "reader",
        "colleague",
        "stranger",
    }
    assert all(s.deadline_s >= 10 for s in policy.patient(PATIENCE_S).surfaces.values())
