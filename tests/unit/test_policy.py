"""Policies that cannot work are refused on load; a surface says only what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.orchestrator.policy import Policy
from recmesh.storage.errors import ConfigurationError

POLICY = """
name = "test"
[defaults]
universe = "items"
sources = ["popular"]
model_weights = {{ popular = 1.0 }}
objective_weights = {{ relevance = 1.0 }}
source_limit = 10
page_size = 10
source_timeout_s = 1.0
deadline_s = 1.0
half_life_days = {{ default = 14.0, guideline = 90.0 }}
slate = {{ max_per_topic = 4, diversity_strength = 0.1 }}
[surfaces.feed]
{feed}
"""


def load(folder: Path, feed: str) -> Policy:
    file = folder / "policy.toml"
    file.write_text(POLICY.format(feed=feed))
    return Policy.load(file)


def test_a_surface_says_what_differs_from_the_defaults_tables(tmp_path: Path) -> None:
    feed = load(tmp_path, "slate.max_per_topic = 2\nhalf_life_days.case = 30.0").surfaces["feed"]
    assert feed.slate.max_per_topic == 2
    assert feed.slate.diversity_strength == 0.1
    assert feed.half_life_days == {"default": 14.0, "guideline": 90.0, "case": 30.0}


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ('pins = { "i1" = 3, "i2" = 3 }', "slot 3 is given to i1 and i2"),
        ('pins = { "i1" = 0 }', "pins.i1"),
        ('pins = { "i1" = 3 }\nblocks = ["i1"]', "item i1 is pinned and blocked"),
        ('pins = { "i1" = 201 }', "pinned to slot 201; pages have 200"),
        ("slate.sponsored_share = 0.001", "sponsored_share 0.001 is less than one slot"),
        ("campaigns.largest_price = 1.5", "campaigns.largest_price"),
        ("campaigns.most_organic_loss = -0.1", "campaigns.most_organic_loss"),
        ("objective_weights = { relevance = -0.1 }", "weights are finite and ≥ 0"),
        ("objective_weights = { serenity = 1.0 }", "unknown objective serenity"),
        ("slate.diversity_strength = 1.5", "slate.diversity_strength"),
        ('slate.diversity = "random"', "slate.diversity"),
        ("slate.max_per_topics = 3", "slate.max_per_topics"),
        ("slate.exploration_slots = [0]", "slot 0; slots are counted from 1"),
        ("half_life_days.case = 0.0", "half_life_days.case"),
        ("mmr_lambda = 0.9", "mmr_lambda"),
        ("objective_weights = { affinity = 0.1 }", "affinity_weights names no model"),
        ("affinity_weights = { nlp = 1.0 }", "are for surfaces with a query"),
        ("fusion = { words_weight = 1.5 }", "words_weight is 1.5"),
        ("fusion = { words_wait = 0.5 }", "words_wait"),
        ("feedback = { items = -1 }", "no negative setting"),
    ],
)
def test_a_policy_that_cannot_work_names_the_place(tmp_path: Path, feed: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, feed)


def test_half_lives_need_a_default(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY.format(feed="").replace("default = 14.0, ", ""))
    with pytest.raises(ConfigurationError, match="default is missing"):
        Policy.load(file)


def test_the_default_policy_loads() -> None:
    assert "feed" in Policy.load().surfaces
