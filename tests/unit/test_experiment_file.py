"""The file that an experiment is written in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recmesh.offline.experiments.experiment_file import ExperimentFile
from recmesh.storage.errors import ConfigurationError

DOCUMENT = Path(__file__).parents[2] / "docs" / "experiments.md"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def documented() -> str:
    found = re.search(r"^```toml\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def read(text: str) -> ExperimentFile:
    return ExperimentFile.read(text, "file")


def test_the_documented_file_is_one_with_what_it_leaves_out_put_in_too() -> None:
    text = documented()
    plain = read(text).experiment({"fresh": "fresh-feed-fresh-0"}, NOW)
    assert (plain.buckets, plain.ends_at) == (5000, NOW + timedelta(days=14))
    assert [(arm.share, arm.policy) for arm in plain.arms] == [
        (0.5, ""),
        (0.5, "fresh-feed-fresh-0"),
    ]
    whole = read(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert whole.arms[1].without_campaigns == ("spring-2026",)
    assert set(whole.arms[1].surfaces["feed"]) == {"objective_weights", "sources", "model_weights"}
    assert whole.experiment({}, NOW).starts_at == datetime(2026, 12, 1, tzinfo=UTC)


def test_an_arm_without_a_share_gets_what_the_others_leave() -> None:
    text = documented().replace('name = "fresh"\nshare = 0.5', 'name = "fresh"\nshare = 0.4')
    shares = [arm.share for arm in read(text).experiment({}, NOW).arms]
    assert shares == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("margin = 0.1", "margin = 0.1\nunit = 1", "plan.metrics.1.unit: Extra inputs"),
        ('numerator_covariate = "clicks_before"', "margin = 0.1", "at least one is to be a goal"),
        ('"clicks_before"', '"pages_before"', "no column 'pages_before'"),
        ('unit = "doctor"', 'unit = "campaign"', "an arm says takes_part and nothing else"),
        ("days = 14", "days = 14\nkinds = 1", "kinds: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_work_is_refused_with_the_place(old: str, new: str, message: str) -> None:
    text = documented()
    assert old in text
    with pytest.raises(ConfigurationError, match=message):
        read(text.replace(old, new))
