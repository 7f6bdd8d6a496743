"""What is asked, of whom."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from recmesh.cli.load_generation.request_mix import RequestMix, parse_mix, zipf_weights
from recmesh.cli.load_generation.target_address import checked_target
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError
from tests.small_world import ingested_home

QUERIES = ["heart failure", "copd"]


def test_surfaces_doctors_and_queries_come_as_often_as_they_should() -> None:
    users = [f"d{n}" for n in range(50)]
    mix = RequestMix.of(parse_mix("feed=3,search=1,swipe=0"), None, users, QUERIES)
    drawn = list(islice(mix.requests(np.random.default_rng(0)), 20_000))
    surfaces = Counter(request.surface for request in drawn)
    assert set(surfaces) == {"feed", "search"}
    assert surfaces["feed"] == pytest.approx(15_000, rel=0.02)
    assert {request.query for request in drawn if request.surface == "search"} == set(QUERIES)
    assert {request.query for request in drawn if request.surface == "feed"} == {""}
    asked = Counter(request.user_id for request in drawn)
    expected = 20_000 * zipf_weights(50) / zipf_weights(50).sum()
    assert asked["d0"] == pytest.approx(expected[0], rel=0.05)
    assert asked["d9"] == pytest.approx(expected[9], rel=0.2)


def test_a_seed_asks_the_same() -> None:
    mix = RequestMix.of({"feed": 1}, None, ["a", "b"])
    first, second = (
        [request.user_id for request in islice(mix.requests(np.random.default_rng(4)), 50)]
        for _ in range(2)
    )
    assert first == second


def test_a_data_sets_doctors_come_as_often_as_they_act(tmp_path: Path) -> None:
    dataset = Dataset.open(ingested_home(tmp_path).dataset)
    mix = RequestMix.of({"feed": 1, "search": 1}, dataset)
    events = Counter(dataset.events["user_id"].to_pylist())
    assert dict(zip(mix.users, mix.user_weights, strict=True)) == {
        user: 1 + events[user] for user in dataset.users["user_id"].to_pylist()
    }
    assert any(events.values())
    # It was never searched in.
    assert mix.queries == dataset.items["title"].to_pylist()


def test_what_cannot_be_asked_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigurationError, match="--users-file"):
        RequestMix.of({"feed": 1}, None)
    with pytest.raises(ConfigurationError, match="--queries-file"):
        RequestMix.of({"search": 1}, None, ["d1"])


@pytest.mark.parametrize("text", ["", "feed", "feed=x", "feed=1,feed=2", "feed=0", "feed=-1,a=2"])
def test_another_mix_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match="feed=60"):
        parse_mix(text)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.9.1:50051", "localhost:50051", "[::1]:7"]
)
def test_the_loopback_may_be_loaded(address: str) -> None:
    assert checked_target(address, remote_allowed=False) == address


@pytest.mark.parametrize(
    "address", ["10.0.0.1:1", "0.0.0.0:1", "mesh.example:50051", "[fe80::1]:7", "127.0.0.1.nip:1"]
)
def test_another_machine_only_if_told(address: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow-remote"):
        checked_target(address, remote_allowed=False)
    assert checked_target(address, remote_allowed=True) == address


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "ipv4:127.0.0.1:1,10.0.0.1:1", "dns:///localhost:1", "127.0.0.1:1,10.0.0.1:1"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        checked_target(address, remote_allowed=True)
