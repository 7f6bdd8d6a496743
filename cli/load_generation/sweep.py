"""Finds the knee: the highest rate that a mesh still answers in time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from recmesh.cli.load_generation.load_row import LoadRow

FACTOR = 1.5
"""From one rate to the next."""
TRIES = 2
"""Of a rate that does not hold."""
CLOSE_ENOUGH = FACTOR**0.25
"""The knee is known once the lowest rate that does not hold is at most so many times it."""


@dataclass
class Sweep:
    """Says which rate to measure next.

    A rate holds when 99% of its requests get a page within the deadline of their intended start. It
    may try twice: a machine that was busy once says nothing about a mesh. Rates rise by half until
    one does not hold; then two between it and the last that did are measured. A generator that
    cannot keep to its schedule ends it, too: its lag is part of the latency.
    """

    first_per_s: float
    rows: list[LoadRow] = field(default_factory=list)
    """In the order of measuring."""

    @property
    def beyond(self) -> LoadRow | None:
        """The last try of the lowest rate that did not hold."""
        held = {row.rate_per_s for row in self.rows if row.holds}
        tries = Counter(row.rate_per_s for row in self.rows)
        failed = (row for row in reversed(self.rows) if row.rate_per_s not in held)
        return min(
            (row for row in failed if tries[row.rate_per_s] >= TRIES), key=_rate, default=None
        )

    @property
    def knee(self) -> LoadRow | None:
        """The highest rate that held, of those below all that did not."""
        bound = self.beyond.rate_per_s if self.beyond else math.inf
        held = (row for row in self.rows if row.holds and row.rate_per_s < bound)
        return max(held, key=_rate, default=None)

    def next_per_s(self) -> float | None:
        """The next rate; None when the knee is known, or cannot be."""
        if not self.rows:
            return self.first_per_s
        last = self.rows[-1]
        if not last.holds and list(map(_rate, self.rows)).count(last.rate_per_s) < TRIES:
            return last.rate_per_s
        knee, beyond = self.knee, self.beyond
        if knee is None:
            return None
        if beyond is None:
            return _rounded(knee.rate_per_s * FACTOR)
        between = _rounded(math.sqrt(knee.rate_per_s * beyond.rate_per_s))
        known = beyond.rate_per_s <= knee.rate_per_s * CLOSE_ENOUGH * 1.02
        return None if known or between in map(_rate, self.rows) else between

    def verdict(self) -> str:
        """Where the knee is, in a sentence."""
        knee, beyond = self.knee, self.beyond
        if knee is None:
            if beyond is None:
                return "nothing was measured"
            return f"no knee: {beyond.rate_per_s:g} requests/s do not hold; begin lower with --rate"
        if beyond is None:
            return f"the knee is at {knee.rate_per_s:g} requests/s or above"
        said = f"the knee is at {knee.rate_per_s:g} requests/s: {beyond.rate_per_s:g} do not hold"
        if not beyond.reliable:
            said += ", and there the generator itself lagged behind: the mesh may hold more"
        return said


def _rate(row: LoadRow) -> float:
    return row.rate_per_s


def _rounded(rate_per_s: float) -> float:
    return float(f"{rate_per_s:.3g}")
