"""Numbers over doctors, with their errors: the delete-a-group jackknife.

A log holds many slots of few doctors, and slots of one doctor are alike: what varies independently
are doctors. Every statistic here is a function of sums over doctors. They are dealt into groups;
leaving out one group after the other gives the statistic's standard error and takes out its first
order of bias (Quenouille 1956; Tukey 1958; Efron & Tibshirani 1993, chapter 11; groups: Kott,
Journal of Official Statistics 2001).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from recmesh.offline.diagnosis.finding import Answer, Measured, Part, TooFew, Trend, Worse
from recmesh.offline.diagnosis.serving_log import (
    NOTHING,
    Bool,
    Float64,
    Int64,
    ServingLog,
)

Statistic = Callable[[Float64], Float64]
"""Of sums ``[..., columns]``: ``[...]``; NaN where it is undefined."""
Change = Callable[[Float64, Float64], Float64]
"""Of the sums of the period's first and second half."""

MOST_GROUPS = 100
LEAST_DOCTORS = 30
LEAST_ROWS = 300
LEAST_DOCTORS_OF_SLICE = 20
LEAST_ROWS_OF_SLICE = 200
STRETCHES = 7
LEVEL = 0.95


@dataclass(frozen=True)
class Rows:
    """What is summed, one row a slot, a page or a doctor's stretch of time."""

    doctor: Int64
    unix_s: Float64
    surface: Int64
    columns: Float64
    """``[rows, columns]``"""

    def at(self, kept: Bool) -> Rows:
        """Some of the rows."""
        return Rows(self.doctor[kept], self.unix_s[kept], self.surface[kept], self.columns[kept])

    def __len__(self) -> int:
        return len(self.doctor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic, its standard error, and how many groups tell."""

    centre: float
    """The statistic, or its logarithm."""
    error: float
    """Of ``centre``."""
    groups: int
    logarithmic: bool = False

    def _shown(self, value: float) -> float:
        return float(np.exp(value)) if self.logarithmic else value

    @property
    def value(self) -> float:
        """The statistic."""
        return self._shown(self.centre)

    @property
    def interval(self) -> tuple[float, float]:
        """At 95%, by Student's t."""
        reach = float(stats.t.isf((1 - LEVEL) / 2, self.groups - 1)) * self.error
        return self._shown(self.centre - reach), self._shown(self.centre + reach)

    def p_of(self, bound: float, worse: Worse) -> float:
        """One-sided p of a value that is no worse than the bound."""
        bound = float(np.log(bound)) if self.logarithmic else bound
        beyond = self.centre - bound if worse == "above" else bound - self.centre
        if not self.error:
            return 0.0 if beyond > 0 else 1.0
        return float(stats.t.sf(beyond / self.error, self.groups - 1))


def _groups(doctor: Int64) -> tuple[Int64, int]:
    """A group of every row, and how many there are."""
    distinct, place = np.unique(doctor, return_inverse=True)
    count = min(len(distinct), MOST_GROUPS)
    return np.asarray(place % max(count, 1), np.int64), count


def _sums(groups: Int64, count: int, columns: Float64) -> Float64:
    of_group = sparse.csr_matrix(
        (np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups))
    )
    return np.asarray(of_group @ columns, np.float64)


def jackknife(
    parts: tuple[Float64, ...], statistic: Callable[..., Float64], *, times: bool = False
) -> Estimate | None:
    """A statistic of sums of groups.

    Args:
        parts: sums ``[groups, columns]``, several where the statistic takes several.
        statistic: of their sums.
        times: it says how many times: its logarithm is nearer to normal, and is what is
            estimated where no group's absence makes it 0.

    Returns:
        None where it is undefined, or two groups are too few to tell.
    """
    groups = len(parts[0])
    if groups < 3:
        return None
    wholes = tuple(part.sum(axis=0) for part in parts)
    value = float(statistic(*wholes))
    # As much as all groups would give, so that totals can be compared as well as ratios.
    scale = groups / (groups - 1)
    left = statistic(*(scale * (whole - part) for whole, part in zip(wholes, parts, strict=True)))
    if not np.isfinite(value) or not np.isfinite(left).all():
        return None
    logarithmic = times and value > 0 and bool((left > 0).all())
    if logarithmic:
        value, left = float(np.log(value)), np.log(left)
    pseudo = groups * value - (groups - 1) * left
    error = float(pseudo.std(ddof=1) / np.sqrt(groups))
    return Estimate(float(pseudo.mean()), error, groups, logarithmic)


@dataclass(frozen=True)
class Bounds:
    """What is allowed, and what is severe."""

    allowed: float
    severe: float
    worse: Worse


def measure(
    log: ServingLog,
    rows: Rows,
    level: Statistic,
    bounds: Bounds,
    *,
    change: Change | None = None,
    subject: str = "",
    note: str = "",
    least_rows: int = LEAST_ROWS,
    sliced: bool = True,
    times: bool = False,
    least_doctors_of_slice: int = LEAST_DOCTORS_OF_SLICE,
) -> Answer:
    """Judges a number over all doctors, and says how it went and where it is worst.

    Args:
        log: the period.
        rows: what is summed.
        level: the number at any time.
        bounds: of what is judged.
        change: what is judged instead, of both halves; None: the level of the whole period.
        subject: what it is of.
        note: for readers.
        least_rows: fewer are too few.
        sliced: look for the slice where it is worst.
        times: what is judged says how many times; see :func:`jackknife`.
        least_doctors_of_slice: smaller slices are left out.
    """
    doctors = len(np.unique(rows.doctor))
    if doctors < LEAST_DOCTORS or len(rows) < least_rows:
        return TooFew(
            subject,
            f"{doctors} doctors, {len(rows):,} rows; needs {LEAST_DOCTORS} and {least_rows}",
        )
    judge = _Judge(log, level, change, times)
    found = judge.of(rows)
    if found is None:
        return TooFew(subject, "not defined on this log")
    low, high = found.interval
    measured = Measured(
        subject=subject,
        value=found.value,
        low=low,
        high=high,
        allowed=bounds.allowed,
        severe=bounds.severe,
        worse=bounds.worse,
        p=found.p_of(bounds.allowed, bounds.worse),
        doctors=doctors,
        note=note,
        trend=_trend(judge, rows),
        series=tuple(_series(rows, replace(judge, change=None, times=times and change is None))),
    )
    return _sliced(rows, judge, measured, least_doctors_of_slice) if sliced else measured


@dataclass(frozen=True)
class _Judge:
    """What is judged, of any rows."""

    log: ServingLog
    level: Statistic
    change: Change | None
    times: bool

    def of(self, rows: Rows) -> Estimate | None:
        groups, count = _groups(rows.doctor)
        if self.change is None:
            sums = _sums(groups, count, rows.columns)
            return jackknife((sums,), self.level, times=self.times)
        halves = _halves(self.log, rows, groups, count)
        return jackknife(halves, self.change, times=self.times)


def _halves(log: ServingLog, rows: Rows, groups: Int64, count: int) -> tuple[Float64, Float64]:
    late = rows.unix_s >= log.middle_unix_s
    first = _sums(groups[~late], count, rows.columns[~late])
    second = _sums(groups[late], count, rows.columns[late])
    return first, second


def _trend(judge: _Judge, rows: Rows) -> Trend | None:
    level = judge.level
    halves = _halves(judge.log, rows, *_groups(rows.doctor))
    first, second = (float(level(half.sum(axis=0))) for half in halves)
    change = jackknife(halves, lambda before, after: level(after) - level(before))
    return None if change is None else Trend(first, second, change.value, *change.interval)


def _series(rows: Rows, judge: _Judge) -> Iterator[Part]:
    log = judge.log
    edges = np.linspace(log.start_unix_s, log.end_unix_s, STRETCHES + 1)
    stretch = np.clip(np.searchsorted(edges, rows.unix_s, side="right") - 1, 0, STRETCHES - 1)
    for number in range(STRETCHES):
        part = rows.at(stretch == number)
        found = judge.of(part)
        if found is not None:
            middle = datetime.fromtimestamp(edges[number : number + 2].mean(), UTC)
            yield Part(
                middle.isoformat(), found.value, *found.interval, len(np.unique(part.doctor))
            )


def _slices(log: ServingLog, rows: Rows) -> Iterator[tuple[str, Bool]]:
    doctors = log.doctors
    for dimension, codes, names in (
        ("specialty", doctors.specialty[rows.doctor], doctors.specialty_names),
        ("country", doctors.country[rows.doctor], doctors.country_names),
        ("surface", rows.surface, log.surfaces),
    ):
        if len(np.unique(codes)) < 2:
            continue
        for code in np.unique(codes[codes != NOTHING]).tolist():
            yield f"{dimension} {names[code]}", codes == code


def _sliced(rows: Rows, judge: _Judge, measured: Measured, least_doctors: int) -> Measured:
    by_dimension: dict[str, list[tuple[Part, Estimate]]] = {}
    for name, kept in _slices(judge.log, rows):
        part = rows.at(kept)
        doctors = len(np.unique(part.doctor))
        if doctors < least_doctors or len(part) < LEAST_ROWS_OF_SLICE:
            continue
        found = judge.of(part)
        if found is not None:
            dimension = name.partition(" ")[0]
            own = Part(name, found.value, *found.interval, doctors)
            by_dimension.setdefault(dimension, []).append((own, found))
    tests = [_unlike([found for _, found in parts]) for parts in by_dimension.values()]
    if not tests:
        return measured
    sign = 1.0 if measured.worse == "below" else -1.0
    ordered = sorted(
        (part for parts in by_dimension.values() for part, _ in parts),
        key=lambda part: sign * part.value,
    )
    # Bonferroni over dimensions, which share their doctors.
    p = min(1.0, len(tests) * min(tests))
    return replace(measured, slices=tuple(ordered), slices_p=p)


def _unlike(found: list[Estimate]) -> float:
    """p of equal slices: Cochran's test (Cochran 1954)."""
    if any(one.logarithmic != found[0].logarithmic for one in found):
        return 1.0  # Some are 0: their logarithm, and so the spread of all, is not known.
    value = np.array([one.centre for one in found])
    error = np.array([one.error for one in found])
    known = error > 0
    if known.sum() < 2:
        return 1.0
    precision = 1.0 / np.square(error[known])
    pooled = float(precision @ value[known] / precision.sum())
    q = float(precision @ np.square(value[known] - pooled))
    return float(stats.chi2.sf(q, known.sum() - 1))


def over(above: npt.ArrayLike, below: npt.ArrayLike) -> Float64:
    """A quotient, elementwise; NaN where what is below is not above 0."""
    numerator, denominator = np.asarray(above, np.float64), np.asarray(below, np.float64)
    found = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=found, where=denominator > 0)
    return found


def ratio(numerator: int = 0, denominator: int = 1) -> Statistic:
    """One column's sum over another's; NaN over 0."""

    def of(sums: Float64) -> Float64:
        return over(sums[..., numerator], sums[..., denominator])

    return of


def relative_change(level: Statistic) -> Change:
    """The second half's level over the first's; NaN over 0."""

    def of(before: Float64, after: Float64) -> Float64:
        return over(level(after), level(before))

    return of


def columns_of(*columns: npt.ArrayLike) -> Float64:
    """Columns side by side ``[rows, columns]``."""
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
