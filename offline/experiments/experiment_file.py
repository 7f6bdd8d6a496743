"""An experiment as its owner writes it: one TOML file, read once.

docs/experiments.md explains every field. What the file says of its analysis is fixed with it.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from recmesh.offline.experiments.plan import AnalysisPlan, Metric
from recmesh.offline.experiments.unit_columns import (
    CAMPAIGN_COLUMNS,
    COLUMNS,
    COVARIATES,
    SLICES,
)
from recmesh.orchestrator.experiments.experiment import BUCKETS, Arm, Experiment, Name
from recmesh.orchestrator.experiments.experiment_store import said
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.interchange import EVENT_TYPES


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmTable(_Table):
    """One arm; what it does not say is as without the experiment."""

    name: Name
    share: float | None = Field(default=None, gt=0, le=1)
    """Of the experiment's units; None: as much as every other arm that does not say."""
    policy: str = ""
    embedding: str = ""
    models: dict[Name, str] = {}
    """Version that answers for a model, by model; it must run beside the live one."""
    without_campaigns: tuple[str, ...] = ()
    takes_part: bool = True
    surfaces: dict[str, dict[str, Any]] = {}
    """What of the policy's surfaces is otherwise, as a policy file says it."""


class PlanTable(_Table):
    """What the analysis will look at."""

    planned_units: int = Field(ge=2)
    """Of all arms at the planned end."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    metrics: tuple[Metric, ...] = ()
    slices: tuple[str, ...] = ()
    credit: str = "click"
    """Of an interleaved experiment: the event that speaks for the arm that picked the slot."""
    before_days: float = Field(default=28.0, gt=0, le=365)
    """How long before the start covariates are counted."""

    @field_validator("credit")
    @classmethod
    def _an_event(cls, credit: str) -> str:
        if credit not in EVENT_TYPES or credit in ("impression", "search"):
            known = ", ".join(sorted(set(EVENT_TYPES) - {"impression", "search"}))
            raise ValueError(f"{credit!r} speaks for no slot; one of {known}")
        return credit

    def analysis(self, experiment: Experiment) -> AnalysisPlan:
        """As :func:`~recmesh.offline.experiments.analysis.analyze` takes it."""
        return AnalysisPlan(
            experiment=experiment,
            metrics=self.metrics,
            slices=self.slices,
            planned_units=self.planned_units,
            alpha=self.alpha,
        )


class ExperimentFile(_Table):
    """The whole file."""

    name: Name
    hypothesis: str = Field(min_length=1)
    """What it is to show, for people."""
    layer: Name = "pages"
    kind: Literal["ab", "interleave"] = "ab"
    unit: Literal["doctor", "campaign"] = "doctor"
    surfaces: tuple[Name, ...] = ()
    share: float = Field(default=1.0, ge=1 / BUCKETS, le=1)
    """Of the layer's units."""
    starts_at: AwareDatetime | None = None
    """The first moment; None: when it is started."""
    days: float = Field(gt=0, le=365)
    arms: tuple[ArmTable, ...] = Field(min_length=2)
    plan: PlanTable

    @classmethod
    def read(cls, text: str, name: str) -> ExperimentFile:
        """Checks a file's text; ``name`` names it in errors.

        Raises:
            ConfigurationError: it breaks a rule; says the rule and the value.
        """
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{name} is not TOML: {error}") from error
        except ValidationError as error:
            raise ConfigurationError(f"{name}: {said(error)}") from error

    @model_validator(mode="after")
    def _whole(self) -> ExperimentFile:
        self.experiment({}, datetime.now(UTC))
        plan = self.plan
        if self.kind == "interleave":
            if plan.metrics or plan.slices:
                raise ValueError(
                    "plan: interleaving says which arm is preferred by plan.credit; it has no "
                    "metrics and no slices"
                )
            return self
        if not plan.metrics:
            raise ValueError("plan.metrics: at least one is needed")
        if all(metric.margin is not None for metric in plan.metrics):
            raise ValueError("plan.metrics: all have a margin; at least one is to be a goal")
        known = COLUMNS if self.unit == "doctor" else CAMPAIGN_COLUMNS
        for metric in plan.metrics:
            for column in metric.columns:
                if column not in (*known, *COVARIATES):
                    raise ValueError(
                        f"plan.metrics.{metric.name}: no column {column!r}; there are "
                        f"{', '.join((*known, *COVARIATES))}"
                    )
        unknown = [name for name in plan.slices if name not in SLICES]
        if unknown or (plan.slices and self.unit == "campaign"):
            raise ValueError(
                f"plan.slices: {unknown[0] if unknown else plan.slices[0]!r}; doctors have "
                f"{', '.join(SLICES)}, campaigns none"
            )
        self.plan.analysis(self.experiment({}, datetime.now(UTC)))
        return self

    def experiment(self, policies: dict[str, str], now: datetime) -> Experiment:
        """The experiment that the file asks for, in the layer's first buckets.

        Args:
            policies: version of the policy that was made for an arm, by arm.
            now: when it begins, where the file does not say.

        Raises:
            ValueError: arms and experiment do not fit each other.
        """
        said_shares = [arm.share for arm in self.arms if arm.share is not None]
        others = len(self.arms) - len(said_shares)
        rest = (1.0 - sum(said_shares)) / others if others else 0.0
        if others and rest <= 0:
            raise ValueError(f"arms: shares add up to {sum(said_shares):g}; nothing is left")
        starts_at = self.starts_at or now
        return Experiment(
            name=self.name,
            layer=self.layer,
            kind=self.kind,
            unit=self.unit,
            surfaces=self.surfaces,
            arms=tuple(
                Arm(
                    name=arm.name,
                    share=rest if arm.share is None else arm.share,
                    # What an arm changes becomes a version when the experiment is created.
                    policy=policies.get(arm.name, arm.policy or ("?" if arm.surfaces else "")),
                    embedding=arm.embedding,
                    models=arm.models,
                    without_campaigns=arm.without_campaigns,
                    takes_part=arm.takes_part,
                )
                for arm in self.arms
            ),
            first_bucket=0,
            buckets=max(1, round(self.share * BUCKETS)),
            starts_at=starts_at,
            ends_at=starts_at + timedelta(days=self.days),
        )
