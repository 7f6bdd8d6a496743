"""From a tuning to a promoted policy and back, as its user would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.home import Home
from tests.small_world import tastes_home

TUNE = ("tune", "--trials", "30", "--bootstrap-samples", "20")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tastes_home(tmp_path_factory.mktemp("tune")))


@pytest.fixture(autouse=True)
def in_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECMESH_HOME", str(home.root))


def recmesh(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def answer(*words: str) -> Any:
    return json.loads(recmesh(*words, "--json"))


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 1, done.output
    return done.output


def test_a_front_is_found_chosen_from_promoted_and_taken_back(home: Home, tmp_path: Path) -> None:
    report = answer(*TUNE)
    assert report["trials"] == 30
    assert {point["number"] for point in report["points"]} == set(range(len(report["points"])))
    for point in report["points"]:
        assert sum(point["overrides"]["model_weights"].values()) == pytest.approx(1, abs=0.01)
    assert len({tuple(point["overrides"]) for point in report["points"]}) == 1
    names = [front["name"] for front in report["fronts"]]
    assert names[0] == "tuned front"
    assert {"best single model", "uniform blend", "hand-set policy"} < set(names)
    best = {front["name"]: front["hypervolume"]["value"] for front in report["fronts"]}
    assert best["tuned front"] >= best["best single model"]

    # Asked for more, the study goes on; asked again, nothing is tried.
    again = answer(*TUNE[:2], "40", *TUNE[3:], "--choose", "ndcg>=0.9*best, maximize diversity")
    assert again["trials"] == 40
    assert answer(*TUNE[:2], "40", *TUNE[3:])["trials_per_minute"] == 0

    listed = answer("policy", "list")
    assert [one["live"] for one in listed] == [False] * len(listed)
    version = listed[-1]["version"]
    assert listed[-1]["surface"] == "feed"
    policy = PolicyStore(home.policies).load(version)
    assert policy.surfaces["feed"].front
    assert answer("policy", "promote", version)["changed"]
    assert answer("policy", "show")["version"] == version
    assert f"+++ {version}" in recmesh("policy", "diff", version, listed[0]["version"]) or (
        len(listed) == 1
    )
    chosen = answer("policy", "choose", version, "ndcg>=0.5*best, maximize diversity")
    assert set(chosen["metrics"]) == {"ndcg", "diversity"}
    for name in ("front.html", "front.png"):
        recmesh("policy", "plot", version, "--out", str(tmp_path / name))
        assert (tmp_path / name).stat().st_size > 10_000
    assert answer("policy", "rollback")["version"] == "the configured file"


def test_workers_share_one_study() -> None:
    report = answer(*TUNE, "--workers", "2", "--seed", "7")
    assert report["trials"] >= 30
    assert answer(*TUNE, "--seed", "7")["trials_per_minute"] == 0, "the study is there"
    said = refused(*TUNE, "--workers", "2", "--seed", "8", "--sampler", "guess")
    assert "no sampler 'guess'" in said
    assert not ray.is_initialized()


def test_a_weight_that_was_set_by_hand_and_not_tuned_is_kept(home: Home, tmp_path: Path) -> None:
    text = DEFAULT_POLICY.read_text()
    weighed = text.replace("novelty = 0.05\n", "novelty = 0.05\ncampaign = 0.15\n", 1)
    assert weighed != text
    file = tmp_path / "weighed.toml"
    file.write_text(weighed)
    known = {one["version"] for one in answer("policy", "list")}
    recmesh(*TUNE, "--policy", str(file))
    (version,) = {one["version"] for one in answer("policy", "list")} - known
    feed = PolicyStore(home.policies).load(version).surfaces["feed"]
    for weights in (feed.objective_weights, *(point.objective_weights for point in feed.front)):
        assert weights["campaign"] / weights["relevance"] == pytest.approx(0.15 / 0.75, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--surface", "search"), "cannot be tuned on past events"),
        (("--surface", "nowhere"), "no surface 'nowhere'"),
        (("--metrics", "ndcg,fame"), "no metric 'fame'"),
        (("--metrics", "diversity,novelty"), "ndcg among them"),
        (("--metrics", "ndcg,delivery"), "no campaign runs"),
        (("--sampler", "guess"), "no sampler 'guess'"),
        (("--choose", "the best"), "cannot be read"),
        (("--policy", "nothing"), "no policy 'nothing'"),
        (("--out", "front.pdf"), "use .json or .md"),
    ],
)
def test_what_cannot_be_tuned_is_said(words: tuple[str, ...], said: str) -> None:
    assert said in " ".join(refused(*TUNE, *words).split())


def test_what_has_no_front_is_not_drawn(tmp_path: Path) -> None:
    assert "has no front" in refused("policy", "plot", "--out", str(tmp_path / "x.html"))
    assert "use .html or .png" in refused("policy", "plot", "--out", str(tmp_path / "x.svg"))


def test_the_configured_file_is_what_serves_while_none_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(DEFAULT_POLICY.read_text().replace('name = "default"', 'name = "mine"'))
    monkeypatch.setenv("RECMESH_ORCHESTRATOR__POLICY", str(mine))
    assert answer("policy", "show")["policy"] == mine.read_text()
    assert recmesh("policy", "diff", str(DEFAULT_POLICY)).startswith("--- mine-")
    monkeypatch.setenv("RECMESH_ORCHESTRATOR__POLICY", str(tmp_path / "gone.toml"))
    assert "gone.toml does not exist" in " ".join(refused("policy", "show").split())
