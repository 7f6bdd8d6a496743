"""What an evaluation found, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.circumstances import Circumstances
from recmesh.offline.evaluation.period import Period
from recmesh.offline.metrics.descriptions import Description
from recmesh.storage.dataset import Dataset

METRICS = ("ndcg", "recall", "coverage", "novelty", "diversity")
SEGMENTS = {"known": "users with a history", "all": "all users"}


@dataclass(frozen=True, slots=True)
class System:
    """One ranking's figures."""

    name: str
    kind: str
    """``baseline``, ``model`` or ``blend``."""
    segments: dict[str, dict[str, Interval]]
    """Metric to interval, by segment; NaN where the data do not allow the metric."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The blend against the best single baseline of a segment, user by user."""

    segment: str
    baseline: str
    difference: Interval
    """nDCG of the blend minus the baseline's: the paired interval."""


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """All systems on some of the users."""

    dimension: str
    """What users are told apart by: ``doctors``, ``activity``, ``specialty`` or ``surface``."""
    name: str
    users: int
    systems: dict[str, dict[str, Interval]]
    """Metric to interval, by system."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What was evaluated on."""

    items: int
    users: int
    events: int
    edges: int
    campaigns: int
    wanted: int
    """First positive events of the test that are judged: pairs of user and item."""
    new_as_wanted: float
    """Of the test's first positive events, on items that nobody had turned to, in [0, 1]."""
    ends: str
    """Just after the last event."""

    @classmethod
    def of(cls, dataset: Dataset, test: Period) -> DataFacts:
        """Counts what there is."""
        return cls(
            items=len(dataset.items),
            users=len(dataset.users),
            events=len(dataset.events),
            edges=len(dataset.edges),
            campaigns=len(dataset.campaigns),
            wanted=int(test.wanted.sum()),
            new_as_wanted=test.share_of_new,
            ends=test.end.isoformat(),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One run of ``recmesh evaluate``."""

    dataset_version: str
    k: int
    seed: int
    bootstrap_samples: int
    validation_start: str
    test_start: str
    users: dict[str, int]
    """Test users by segment."""
    catalogue: int
    diversity_on: str
    """What the distance of two items is measured on."""
    data: DataFacts
    metrics: list[Description]
    """What was measured, in the order of tables."""
    systems: list[System]
    comparisons: list[Comparison]
    slices: list[SliceFigures]
    """Of all users."""
    lorenz: dict[str, list[float]]
    """By system, the share of all users' attention that the least shown 0, 1, … 100% of the
    catalogue have."""
    weights: dict[str, float]
    """The blend's, by scorer."""
    popularity_half_life_days: float
    validation_ndcg: float
    validation_users: int
    trials: int
    absent: dict[str, str]
    """Models without an opinion on this data set, and why."""
    circumstances: Circumstances
    remarks: list[str]
    """Where a model loses to a baseline, and what was measured that bears on it."""
    seconds: float

    def as_json(self) -> str:
        """The whole report; numbers unrounded, undefined ones null."""
        return json.dumps(_without_nan(asdict(self)), indent=2, ensure_ascii=False)

    def as_markdown(self) -> str:
        """The report as a page."""
        lines = [f"# Evaluation of data set {self.dataset_version}", "", self.summary(), ""]
        for segment, meaning in SEGMENTS.items():
            if not self.users[segment]:
                continue
            lines += [f"## {self.users[segment]:,} {meaning}", ""]
            lines += ["| | " + " | ".join(self.headings()) + " |"]
            lines += ["|---" * (1 + len(METRICS)) + "|"]
            for system in self.systems:
                cells = " | ".join(self.cells(system, segment))
                lines.append(f"| {system.name} | {cells} |")
            lines += ["", *(self.compared(c) for c in self.comparisons if c.segment == segment), ""]
            others = self.others()
            lines += ["| | " + " | ".join(heading(d) for d in others) + " |"]
            lines += ["|---" * (1 + len(others)) + "|"]
            for system in self.systems:
                cells = " | ".join(self.values(system, segment))
                lines.append(f"| {system.name} | {cells} |")
            lines.append("")
        if self.slices:
            names = [system.name for system in self.systems]
            lines += [f"## nDCG@{self.k} by slice", ""]
            lines += ["| | users | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
            for one in self.slices:
                cells = " | ".join(self.slice_cells(one))
                lines.append(f"| {one.dimension}, {one.name} | {one.users:,} | {cells} |")
            lines.append("")
        lines += ["## The blend", "", self.blend_summary(), ""]
        if self.remarks or self.absent:
            lines += ["## Where a model falls short", ""]
            lines += [f"- {remark}" for remark in self.shortcomings()]
            lines.append("")
        return "\n".join(lines)

    def headings(self) -> list[str]:
        """Column names of the table."""
        return [f"{name}@{self.k}" for name in ("nDCG", *METRICS[1:-2])] + [
            "novelty, bits",
            METRICS[-1],
        ]

    def cells(self, system: System, segment: str) -> list[str]:
        """One row of the table: values with their intervals."""
        return [shown(system.segments[segment][metric]) for metric in METRICS]

    def group(self, segment: str) -> str:
        """A segment and how many users it has, for people."""
        count = f"{self.users[segment]:,}"
        return f"all {count} users" if segment == "all" else f"{count} {SEGMENTS[segment]}"

    def others(self) -> list[Description]:
        """What was measured beside :data:`METRICS`."""
        return [found for found in self.metrics if found.metric not in METRICS]

    def values(self, system: System, segment: str) -> list[str]:
        """One row of the table of :meth:`others`: values alone."""
        figures = system.segments[segment]
        return [figure(figures[found.metric].value) for found in self.others()]

    def slice_cells(self, one: SliceFigures, metric: str = "ndcg") -> list[str]:
        """One row of the table of slices: each system's value."""
        return [figure(one.systems[system.name][metric].value) for system in self.systems]

    def summary(self) -> str:
        """How it was measured."""
        return (
            f"Global temporal split: validation from {self.validation_start}, test from "
            f"{self.test_start}. Full ranking of the {self.catalogue:,} items with an earlier "
            f"positive event, seen items removed. Diversity on {self.diversity_on}. Brackets: 95% "
            f"bootstrap intervals over users, {self.bootstrap_samples:,} samples, seed {self.seed}."
        )

    def blend_summary(self) -> str:
        """What the blend is."""
        weights = ", ".join(f"{name} {weight:.3f}" for name, weight in self.weights.items())
        return (
            f"Weights {weights}; popularity half-life {self.popularity_half_life_days:g} days. "
            f"Chosen on the {self.validation_users:,} validation users alone (nDCG@{self.k} "
            f"{self.validation_ndcg:.3f}, {self.trials} trials)."
        )

    def compared(self, comparison: Comparison) -> str:
        """The paired comparison as a sentence."""
        return (
            f"Blend minus {comparison.baseline}, the best single baseline, on "
            f"{SEGMENTS[comparison.segment]}: nDCG@{self.k} {shown(comparison.difference, True)}."
        )

    def shortcomings(self) -> list[str]:
        """Remarks on the models that lose and on those that are absent."""
        return [*self.remarks, *(f"{name} is absent: {why}." for name, why in self.absent.items())]


def heading(description: Description) -> str:
    """A column's name, with its unit where it is not a share."""
    unit = "" if description.unit in ("0 to 1", "ratio − 1") else f", {description.unit}"
    return description.label + unit


def figure(value: float) -> str:
    """Three decimals; fewer for large values, a dash for undefined ones."""
    if value != value:
        return "–"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def shown(interval: Interval, signed: bool = False, decimals: int = 3) -> str:
    """``value [low, high]``; a dash when it is undefined."""
    if interval.value != interval.value:
        return "–"
    form = f"{{:{'+' if signed else ''}.{decimals}f}}"
    low, high = form.format(interval.low), form.format(interval.high)
    return f"{form.format(interval.value)} [{low}, {high}]"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
