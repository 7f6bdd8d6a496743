"""How many requests a second are to start, and for how long."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from recmesh.storage.errors import ConfigurationError

HOURS = 24
TROUGH_SHARE = 0.1
"""Of the daily peak, at midnight."""
_FORMS = "step:RATE,RATE,…xSECONDS or daily:PEAKxSECONDS"
_PROFILE = re.compile(r"(?P<kind>step|daily):(?P<rates>[\d.,]+)x(?P<seconds>[\d.]+)s?")


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a run at one rate. Both are above 0."""

    rate_per_s: float
    seconds: float


def steps(rates_per_s: Sequence[float], seconds: float) -> tuple[Segment, ...]:
    """One rate after another, each for so long."""
    return tuple(Segment(rate, seconds) for rate in rates_per_s)


def daily(peak_per_s: float, seconds: float) -> tuple[Segment, ...]:
    """A day of so many seconds: a cosine in 24 steps, from the trough to the peak and back."""
    shape = (
        TROUGH_SHARE + (1 - TROUGH_SHARE) * (1 - math.cos(2 * math.pi * (hour + 0.5) / HOURS)) / 2
        for hour in range(HOURS)
    )
    return tuple(Segment(peak_per_s * share, seconds / HOURS) for share in shape)


def parse_profile(text: str) -> tuple[Segment, ...]:
    """Reads ``step:50,200,50x20s`` or ``daily:200x600s``.

    Raises:
        ConfigurationError: it has another form, or a rate or time that is not above 0.
    """
    found = _PROFILE.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        rates = [float(rate) for rate in found["rates"].split(",")]
        seconds = float(found["seconds"])
        if seconds <= 0 or min(rates) <= 0 or (found["kind"] == "daily" and len(rates) != 1):
            raise ValueError(text)
    except ValueError:
        raise ConfigurationError(
            f"--profile {text!r} is not of the form {_FORMS}, all above 0; "
            "for example step:50,200,50x20s"
        ) from None
    return steps(rates, seconds) if found["kind"] == "step" else daily(rates[0], seconds)
