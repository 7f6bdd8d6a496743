"""The effect of one arm on one metric, with its standard errors, by ``tea-tasting``.

The library does what it does right: CUPED (Deng, Xu, Kohavi & Walker, WSDM 2013), the delta method
for ratios of means (Deng, Knoblich & Lu, KDD 2018), and variances that differ between arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tea_tasting as tt
from scipy import stats
from tea_tasting.aggr import read_aggregates

from recmesh.offline.experiments.plan import Metric
from recmesh.storage.errors import DataError

ARM = "arm"
"""Column of the units' table that names each unit's arm."""

_LEVEL = 0.95
_Z = float(stats.norm.isf((1 - _LEVEL) / 2))


@dataclass(frozen=True, slots=True)
class Effect:
    """Treatment against control, adjusted by the metric's covariates."""

    control: float
    """The metric in the control arm."""
    treatment: float
    difference: float
    standard_error: float
    """Of the difference."""
    log_ratio: float
    """Logarithm of treatment over control; NaN unless both are above 0."""
    log_ratio_error: float
    """Its standard error."""
    units: int
    """Of both arms."""

    def interval(self, alpha: float) -> tuple[float, float]:
        """Normal interval of the difference at one look that was planned; level 1 − alpha."""
        reach = float(stats.norm.isf(alpha / 2)) * self.standard_error
        return self.difference - reach, self.difference + reach

    @property
    def z(self) -> float:
        """Difference over its standard error; infinite for a difference without variance."""
        if self.standard_error > 0.0:
            return self.difference / self.standard_error
        return math.copysign(math.inf, self.difference) if self.difference else 0.0

    @property
    def p(self) -> float:
        """Two-sided p of no difference at one look that was planned."""
        return float(2 * stats.norm.sf(abs(self.z)))


class ArmMoments:
    """Counts, means and covariances of every arm: all that effects need of the units.

    Args:
        units: one row a unit, with :data:`ARM` and the metrics' columns.
        metrics: what effects will be asked of.

    Raises:
        DataError: a column is missing, holds nulls, NaN or infinity.
    """

    def __init__(self, units: pa.Table, metrics: tuple[Metric, ...]) -> None:
        need = tuple(dict.fromkeys(column for metric in metrics for column in metric.columns))
        _require_numbers(units, need)
        columns = reduce(lambda a, b: a | b, (_library_metric(m).aggr_cols for m in metrics))
        # The library's covariances are of the columns as they are: whole numbers overflow nothing.
        numbers = {column: units[column].cast(pa.float64()) for column in need}
        self._arms = read_aggregates(
            pa.table({ARM: units[ARM]} | numbers), group_col=ARM, **columns._asdict()
        )

    def units(self, arm: str) -> int:
        """Units of an arm; 0 if none has it."""
        return int(self._arms[arm].count()) if arm in self._arms else 0

    def effect(self, metric: Metric, control: str, treatment: str) -> Effect:
        """Treatment against control.

        Raises:
            DataError: an arm has fewer than 2 units, or a ratio's denominator is 0.
        """
        for arm in (control, treatment):
            if self.units(arm) < 2:
                raise DataError(f"arm {arm} has {self.units(arm)} units; at least 2 are needed")
        first, second = self._arms[control], self._arms[treatment]
        if metric.denominator and 0 in (
            first.mean(metric.denominator),
            second.mean(metric.denominator),
        ):
            raise DataError(f"metric {metric.name}: {metric.denominator} is 0 in a whole arm")
        if metric.denominator_covariate and 0 in (
            first.mean(metric.denominator_covariate),
            second.mean(metric.denominator_covariate),
        ):
            # Nothing was seen before, so nothing is there to adjust by.
            metric = metric.model_copy(
                update={"numerator_covariate": None, "denominator_covariate": None}
            )
        # Where no unit differs from another the library's distributions have no width.
        with np.errstate(invalid="ignore", divide="ignore"):
            found = _library_metric(metric).analyze_aggregates(first, second)
        width = found.effect_size_ci_upper - found.effect_size_ci_lower
        width = 0.0 if math.isnan(width) else width
        log_ratio = log_error = math.nan
        if found.control > 0 and found.treatment > 0:
            log_ratio = math.log(found.treatment / found.control)
            log_error = (math.log1p(found.rel_effect_size_ci_upper) - log_ratio) / _Z
            log_error = 0.0 if math.isnan(log_error) else log_error
        return Effect(
            control=float(found.control),
            treatment=float(found.treatment),
            difference=float(found.effect_size),
            standard_error=float(width) / (2 * _Z),
            log_ratio=log_ratio,
            log_ratio_error=log_error,
            units=self.units(control) + self.units(treatment),
        )


def _library_metric(metric: Metric) -> Any:
    """Normal rather than t, so that its intervals tell the standard error."""
    return tt.RatioOfMeans(
        metric.numerator,
        metric.denominator,
        metric.numerator_covariate,
        metric.denominator_covariate,
        confidence_level=_LEVEL,
        equal_var=False,
        use_t=False,
    )


def _require_numbers(units: pa.Table, columns: tuple[str, ...]) -> None:
    for column in (ARM, *columns):
        if column not in units.column_names:
            raise DataError(f"the units' table has no column {column}")
        values = units[column]
        if values.null_count:
            raise DataError(f"column {column} has {values.null_count} nulls; every unit needs one")
        if column != ARM and not pc.all(pc.is_finite(values.cast(pa.float64()))).as_py():
            raise DataError(f"column {column} holds NaN or infinity")
