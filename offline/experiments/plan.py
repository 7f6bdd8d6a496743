"""What an analysis will look at, fixed before the data are seen."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recmesh.orchestrator.experiments.experiment import Experiment, Name


class Metric(BaseModel):
    """A mean over units, or a ratio of two means, of columns of the units' table.

    Covariates are the same quantities of each unit before the experiment began; they take out
    variance that the experiment cannot have caused (CUPED).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    numerator: str
    denominator: str | None = None
    """None: the mean of ``numerator`` over units."""
    numerator_covariate: str | None = None
    denominator_covariate: str | None = None
    better: Literal["higher", "lower"] = "higher"
    margin: float | None = Field(default=None, gt=0, lt=1)
    """Of a guardrail: the largest relative harm that is put up with. None: a goal."""

    @model_validator(mode="after")
    def _covariates(self) -> Metric:
        if self.denominator_covariate and not self.numerator_covariate:
            raise ValueError("denominator_covariate: is given without numerator_covariate")
        if self.denominator_covariate and not self.denominator:
            raise ValueError("denominator_covariate: is given, but the metric has no denominator")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the units' table that it reads."""
        named = (
            self.numerator,
            self.denominator,
            self.numerator_covariate,
            self.denominator_covariate,
        )
        return tuple(column for column in named if column is not None)


class AnalysisPlan(BaseModel):
    """An experiment's metrics, slices and error rates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Experiment
    metrics: tuple[Metric, ...] = Field(min_length=1)
    slices: tuple[str, ...] = ()
    """Columns whose values part the units, such as specialty or country."""
    planned_units: int = Field(ge=2)
    """Units of all arms at the planned end: where always-valid intervals are tightest."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)

    @model_validator(mode="after")
    def _unique(self) -> AnalysisPlan:
        names = [metric.name for metric in self.metrics]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"metrics: {twice} is named twice")
        return self
