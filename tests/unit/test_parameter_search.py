"""Parameters that owners declare are searched, on what lies before the candidate's test."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from recmesh.models.declaration import Search
from recmesh.models.model import TrainedModel
from recmesh.offline.evaluation.fitting import fit
from recmesh.offline.retraining import candidate, parameter_search
from recmesh.offline.retraining.candidate import train_candidate
from recmesh.offline.retraining.parameter_search import Searched, search_parameters
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from tests.small_world import NOW_UNIX_S, tastes_home

UNTIL = datetime.fromtimestamp(NOW_UNIX_S + 850_000, UTC)
SEARCH = Search.model_validate(
    {
        "trials": 5,
        "parameters": {
            "algorithm": {"choices": ["ease", "als"]},
            "regularisation": {"low": 1.0, "high": 1000.0, "log": True},
        },
    }
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(tastes_home(tmp_path_factory.mktemp("tastes")) / "dataset")


def search(dataset: Dataset, folder: Path, space: Search = SEARCH) -> Searched:
    return search_parameters("cf", space, dataset, folder, until=UNTIL, seed=3)


def test_a_search_chooses_among_what_is_declared_and_again_the_same(
    dataset: Dataset, tmp_path: Path
) -> None:
    found = search(dataset, tmp_path / "one")
    assert found.trials == 5
    assert found.parameters["algorithm"] in ("ease", "als")
    assert 1.0 <= found.parameters["regularisation"] <= 1000.0
    assert found.ndcg_at_10 > 0
    assert search(dataset, tmp_path / "two") == found


def test_a_search_that_was_stopped_goes_on_where_it_was(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(dataset, tmp_path / "whole")
    fitted = []

    def stopping(*arguments: Any, **named: Any) -> TrainedModel:
        fitted.append(named["choices"])
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **named)

    monkeypatch.setattr(parameter_search, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        search(dataset, tmp_path / "stopped")
    assert search(dataset, tmp_path / "stopped") == whole
    assert len(fitted) == 6, "two were done, one was stopped, three were left"


def test_no_trial_sees_what_the_candidate_is_judged_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watching(*arguments: Any, **named: Any) -> TrainedModel:
        seen.append(named["until"])
        return fit(*arguments, **named)

    monkeypatch.setattr(parameter_search, "fit", watching)
    search(dataset, tmp_path)
    assert max(seen) < UNTIL


def test_a_search_in_which_nothing_trains_says_so(dataset: Dataset, tmp_path: Path) -> None:
    def failing(*_: Any, **__: Any) -> TrainedModel:
        raise DataError("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameter_search, "fit", failing)
        with pytest.raises(DataError, match="no trial of the search over algorithm, regularis"):
            search(dataset, tmp_path)


def test_a_candidate_is_trained_with_what_was_found_and_its_card_says_so(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = candidate.declaration("cf").model_copy(update={"search": SEARCH})
    monkeypatch.setattr(candidate, "declaration", lambda _: declared)
    made = train_candidate("cf", dataset, None, until=None, seed=3, studies=tmp_path)
    parameters = made.trained.card.parameters
    assert parameters["searched"]["trials"] == 5
    assert 1.0 <= parameters["regularisation"] <= 1000.0
    assert parameters["regularisation"] not in (100.0, 250.0, 500.0), "what cf tries by itself"


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"trials": 3}, "go together"),
        ({"trials": 3, "parameters": {"a": {"low": 2, "high": 1}}}, "low 2 is not below high 1"),
        ({"trials": 3, "parameters": {"a": {"low": 0, "high": 1, "log": True}}}, "above 0"),
        ({"trials": 3, "parameters": {"a": {"low": 0.5, "high": 2, "whole": True}}}, "whole"),
        ({"trials": 3, "parameters": {"a": {"choices": ["x"]}}}, "at least 2"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Search.model_validate(space)
