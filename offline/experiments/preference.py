"""Which of two interleaved rankings readers prefer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from recmesh.offline.experiments.confidence_sequence import always_valid_p, radius
from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Preference:
    """The second ranking's clicks less the first's, a page, over units."""

    wins: int
    """Units whose clicks favour the second ranking."""
    losses: int
    ties: int
    sign_p: float
    """Of the sign test over units without ties (Radlinski et al. 2008)."""
    credit: float
    """Mean over units of the credit of their pages; above 0: the second ranking is preferred."""
    standard_error: float
    units: int

    @property
    def z(self) -> float:
        """Credit over its standard error; 0 if no unit favours either ranking."""
        return self.credit / self.standard_error if self.standard_error > 0 else 0.0

    @property
    def p(self) -> float:
        """Two-sided p of no preference at one look that was planned."""
        return float(2 * stats.norm.sf(abs(self.z)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Of the credit, at one look that was planned; level 1 − alpha."""
        reach = float(stats.norm.isf(alpha / 2)) * self.standard_error
        return self.credit - reach, self.credit + reach

    def always_valid_p(self, scale: float) -> float:
        """May be looked at any number of times; scale from :func:`mixture_scale`."""
        return float(always_valid_p(self.z, self.units, scale))

    def always_valid_interval(self, scale: float, alpha: float) -> tuple[float, float]:
        """Of the credit, at every look; level 1 − alpha."""
        reach = float(radius(self.standard_error, self.units, scale, alpha))
        return self.credit - reach, self.credit + reach


def page_credit(team: Int8, clicks: Float64) -> Float64:
    """Clicks of the second team less those of the first ``[pages]``.

    Args:
        team: that a click speaks for ``[pages, size]``: 0, 1, or -1 for neither.
        clicks: clicks of every slot ``[pages, size]``.
    """
    return np.asarray(np.where(team == 1, clicks, np.where(team == 0, -clicks, 0.0)).sum(axis=1))


def preference(credit: Float64, unit: Int64) -> Preference:
    """Tests the credit of pages, units being independent of each other.

    Args:
        credit: from :func:`page_credit` ``[pages]``.
        unit: whose page it is ``[pages]``, from 0; a unit without a page takes no part.

    Raises:
        DataError: fewer than 2 units.
    """
    pages = np.bincount(unit)
    mean = np.bincount(unit, credit)[pages > 0] / pages[pages > 0]
    if len(mean) < 2:
        raise DataError(f"{len(mean)} units; at least 2 are needed")
    wins, losses = int((mean > 0).sum()), int((mean < 0).sum())
    decided = wins + losses
    return Preference(
        wins=wins,
        losses=losses,
        ties=len(mean) - decided,
        sign_p=float(stats.binomtest(wins, decided).pvalue) if decided else 1.0,
        credit=float(mean.mean()),
        standard_error=float(mean.std(ddof=1) / np.sqrt(len(mean))),
        units=len(mean),
    )
