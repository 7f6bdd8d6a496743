"""What an experiment says so far, by its plan, with what tells whether to believe it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from recmesh.offline.experiments.analysis import (
    MISMATCH_P,
    ExperimentAnalysis,
    SampleRatio,
    analyze,
    sample_ratio,
)
from recmesh.offline.experiments.confidence_sequence import FEWEST_UNITS, mixture_scale
from recmesh.offline.experiments.experiment_file import ExperimentFile, PlanTable
from recmesh.offline.experiments.preference import Preference, preference
from recmesh.offline.experiments.recorded_pages import RecordedPages, recorded_pages
from recmesh.offline.experiments.recorded_units import (
    RecordedUnits,
    campaign_units,
    doctor_units,
)
from recmesh.orchestrator.experiments.experiment import Experiment, State
from recmesh.orchestrator.experiments.experiment_store import StoredExperiments
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError
from recmesh.storage.recorded_arms import RecordedArms

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One arm."""

    name: str
    share: float
    units: int
    """Of an interleaved page's arm: slots with an impression that it picked."""
    policies: tuple[str, ...]
    """Versions that made its pages, as events tell."""


@dataclass(frozen=True, slots=True)
class PreferenceReport:
    """Which arm of an interleaved experiment is preferred."""

    preference: Preference
    interval: tuple[float, float]
    """Of the credit, at one look that was planned."""
    always_valid_interval: tuple[float, float]
    p: float
    always_valid_p: float
    wanted: Mapping[str, int]
    """Items wanted that each arm picked."""
    pages: int

    def preferred(self, second: str, first: str, final: bool, alpha: float) -> str:
        """The arm that is shown to be preferred; empty: neither is yet."""
        p = self.p if final else self.always_valid_p
        if p > alpha or self.preference.credit == 0:
            return ""
        return second if self.preference.credit > 0 else first


@dataclass(frozen=True)
class ExperimentReport:
    """Everything that is said of an experiment."""

    name: str
    hypothesis: str
    kind: str
    unit: str
    surfaces: tuple[str, ...]
    state: State
    ramp: float
    plan_hash: str
    alpha: float
    starts_at: datetime
    ends_at: datetime
    stopped_at: datetime | None
    days_run: float
    planned_days: float
    planned_units: int
    units: int
    arms: tuple[ArmReport, ...]
    final: bool
    """Whether the planned look is due: it ended as planned. Until then, and where it was stopped,
    only what is always valid is to be believed."""
    sample_ratio: SampleRatio
    """Of an interleaved experiment: whose pick the first slot was."""
    analysis: ExperimentAnalysis | None
    """None: interleaved, or not to be believed."""
    preferred: PreferenceReport | None
    remarks: tuple[str, ...]

    @property
    def believed(self) -> bool:
        """Whether anything but the sample ratio is to be believed."""
        return not self.sample_ratio.mismatch

    def as_json(self) -> str:
        """The report as JSON; what is infinite or undefined is null."""
        told = asdict(self) | {"believed": self.believed}
        told["sample_ratio"] |= {"mismatch": self.sample_ratio.mismatch}
        return json.dumps(_plain(told), indent=1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def experiment_report(
    stored: StoredExperiments,
    name: str,
    recorded: RecordedArms | None,
    dataset: Dataset,
    now: datetime,
) -> ExperimentReport:
    """Reads the events and analyses them by the plan that was fixed.

    Args:
        stored: the book, with the plan.
        name: of the experiment.
        recorded: events; None: there is no database yet.
        dataset: users for slices, campaigns for campaign tests.
        now: the end of what has been.

    Raises:
        NotFoundError: there is no such experiment.
        ConfigurationError: it has not begun.
        DataError: nothing of it is recorded, or its plan is not what was fixed.
    """
    experiment, record = stored.experiment(name), stored.record(name)
    state = experiment.state(now)
    if state in ("created", "waiting") or "started" not in stored.moments(name):
        how = {
            "waiting": f"it begins on {experiment.starts_at:%Y-%m-%d %H:%M} UTC",
            "stopped": "it was stopped before it began",
        }.get(state, f"run: recmesh experiment start {name}")
        raise ConfigurationError(f"experiment {name} has no results: nobody took part yet; {how}")
    if recorded is None:
        raise DataError(f"experiment {name}: nobody has recorded an event yet")
    plan = PlanTable.model_validate(record.plan)
    hypothesis = ExperimentFile.read(record.file, f"experiment {name}").hypothesis
    stopped_at = stored.moments(name).get("stopped")
    until = min(moment for moment in (now, experiment.ends_at, stopped_at) if moment)
    reading = _Reading(stored, experiment, plan, recorded, dataset, until, state == "ended")
    found = reading.interleaved() if experiment.kind == "interleave" else reading.compared()
    return ExperimentReport(
        name=name,
        hypothesis=hypothesis,
        kind=experiment.kind,
        unit=experiment.unit,
        surfaces=experiment.surfaces,
        state=state,
        ramp=experiment.ramp,
        plan_hash=record.plan_hash,
        alpha=plan.alpha,
        starts_at=experiment.starts_at,
        ends_at=experiment.ends_at,
        stopped_at=stopped_at,
        days_run=max(0.0, (until - experiment.starts_at).total_seconds() / DAY_S),
        planned_days=record.days,
        planned_units=plan.planned_units,
        final=state == "ended",
        **found,
    )


@dataclass(frozen=True)
class _Reading:
    """What is needed to read an experiment's events."""

    stored: StoredExperiments
    experiment: Experiment
    plan: PlanTable
    recorded: RecordedArms
    dataset: Dataset
    until: datetime
    final: bool

    def _units(self) -> RecordedUnits:
        if self.experiment.unit == "campaign":
            return campaign_units(
                self.recorded,
                self.dataset,
                self.stored.book,
                self.experiment,
                self.until,
                self.plan.before_days,
            )
        return doctor_units(self.recorded, self.dataset, self.experiment, self.plan.before_days)

    def compared(self) -> dict[str, Any]:
        """An A/B test."""
        experiment, plan = self.experiment, self.plan.analysis(self.experiment)
        units = self._units()
        if not units.table.num_rows:
            raise NotFoundError(self._nothing("no event of its pages is recorded yet"))
        shares = {arm.name: arm.share for arm in experiment.arms}
        counted = units.table.group_by("arm").aggregate([("unit", "count")]).to_pylist()
        ratio = sample_ratio({row["arm"]: row["unit_count"] for row in counted}, shares)
        remarks = self._said_of(ratio, units.policies)
        if units.of_two_arms:
            remarks.append(
                f"{units.of_two_arms:,} {experiment.unit}s have events of two arms and are left "
                f"out; no assignment gives two, so look for what changes user ids or tokens"
            )
        analysis = None
        if not ratio.mismatch:
            try:
                analysis = analyze(units.table, plan)
            except DataError as error:
                remarks.append(f"nothing can be said yet: {error}")
        remarks += [
            f"guardrail {one.metric} of {one.arm} is open: {one.effect.control:g} against "
            f"{one.effect.treatment:g}, and a relative margin needs both above 0"
            for one in (analysis.guardrails if analysis else ())
            if math.isnan(one.effect.log_ratio)
        ]
        if analysis and units.table.num_rows < FEWEST_UNITS:
            remarks.append(
                f"always-valid intervals say something from {FEWEST_UNITS} units on; there are "
                f"{units.table.num_rows}"
            )
        return {
            "units": units.table.num_rows,
            "arms": tuple(
                ArmReport(
                    arm.name,
                    arm.share,
                    ratio.units[arm.name],
                    tuple(units.policies.get(arm.name, ())),
                )
                for arm in experiment.arms
            ),
            "sample_ratio": ratio,
            "analysis": analysis,
            "preferred": None,
            "remarks": tuple(remarks),
        }

    def interleaved(self) -> dict[str, Any]:
        """Pages of two arms."""
        experiment = self.experiment
        events = self.recorded.events(experiment.name)
        pages = recorded_pages(events, experiment, self.plan.credit)
        if not sum(pages.began.values()):
            raise NotFoundError(
                self._nothing("no impression of its pages' first slots is recorded")
            )
        ratio = sample_ratio(dict(pages.began), {arm.name: 0.5 for arm in experiment.arms})
        remarks = self._said_of(ratio, {"both": pages.policies})
        preferred = None
        if not ratio.mismatch:
            try:
                preferred = self._preferred(pages)
            except DataError as error:
                remarks.append(f"nothing can be said yet: {error}")
        return {
            "units": pages.units,
            "arms": tuple(
                ArmReport(arm.name, arm.share, pages.shown[arm.name], tuple(pages.policies))
                for arm in experiment.arms
            ),
            "sample_ratio": ratio,
            "analysis": None,
            "preferred": preferred,
            "remarks": tuple(remarks),
        }

    def _preferred(self, pages: RecordedPages) -> PreferenceReport:
        found = preference(pages.credit, pages.unit)
        scale = mixture_scale(self.plan.planned_units, self.plan.alpha)
        return PreferenceReport(
            preference=found,
            interval=found.interval(self.plan.alpha),
            always_valid_interval=found.always_valid_interval(scale, self.plan.alpha),
            p=found.p,
            always_valid_p=found.always_valid_p(scale),
            wanted=pages.wanted,
            pages=len(pages.credit),
        )

    def _nothing(self, what: str) -> str:
        return (
            f"experiment {self.experiment.name}: {what}; events carry its arms where they bring "
            f"back the attribution token of a page"
        )

    def _said_of(self, ratio: SampleRatio, policies: Mapping[str, Any]) -> list[str]:
        remarks = []
        if ratio.mismatch:
            what = "first slots" if self.experiment.kind == "interleave" else "units"
            remarks.append(
                f"sample ratio mismatch (p {ratio.p:.1g} < {MISMATCH_P:g}): the arms' {what} "
                f"contradict their shares, so events of one arm were lost; nothing else is to be "
                f"believed, and none of it is shown"
            )
        return remarks + [
            f"pages of {arm} were made by {len(found)} policies, {', '.join(found)}: what is live "
            f"changed while it ran"
            for arm, found in policies.items()
            if len(found) > 1
        ]
