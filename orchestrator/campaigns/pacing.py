"""Pacing: a price for every campaign, so that each delivers what was bought, evenly.

Delivery is a constraint, not a weight: over every stretch of time a campaign is to get its share
of the traffic that is left until its end. Its price, the dual of that constraint, is added to the
utility of its slots. After every step the price moves against the error of delivery, which is a
subgradient of the dual (online mirror descent with the Euclidean map: Balseiro, Lu & Mirrokni,
"The Best of Many Worlds: Dual Mirror Descent for Online Allocation Problems", Operations Research
2023), and once more in proportion to it, which damps the swing of a price that reacts late. A
price may be negative: a campaign that is ahead waits. What was missed or given too much is spread
over what is left, because each step plans anew from what has been delivered.

A price is bounded, so that a slot costs no more relevance than the policy allows; where the bound
is reached and delivery still falls behind, the campaign cannot be delivered, and the forecast says
so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

DAYS_A_WEEK = 7.0
RESERVE = 0.04
"""Share of a campaign's traffic that it plans not to need: slots that lapse late have a second
chance."""
LAST_CHANCES = 4.0
"""Impressions that it could be given in this traffic, on average, at least: none comes with a
probability of e^-4, 2%. So a campaign that can rarely be shown takes every chance early."""
LATELY_S = 12 * 3600.0
SMALLEST_SAMPLE = 4.0
"""Impressions due of late from which on the rate of delivery is told."""
SMALLEST_PLAN = 1.0
"""Impressions of a step's plan that errors are measured against, at least."""


@dataclass(frozen=True, slots=True)
class PacingSettings:
    """How prices move; in units of utility."""

    largest_price: float = 0.6
    """The most utility that a sponsored slot may be given; the policy's bound on relevance."""
    step: float = 0.04
    """Of the price, for a step that delivered nothing or twice its plan."""
    damping: float = 0.08
    """Of the part that follows the error at once."""
    memory: float = 0.7
    """Weight of earlier steps in the error that is followed at once, in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Prices:
    """The pacer's state after a step; arrays ``[campaigns]``."""

    at_unix_s: float
    price: Float64
    """Added to the utility of a campaign's slots, in [-largest, largest]."""
    dual: Float64
    """The part of the price that errors have added up to."""
    error: Float64
    """Smoothed error of delivery over the plan; positive: behind."""
    delivered: Int64
    """Impressions confirmed or held until then."""
    planned_lately: Float64
    """Impressions that were due in the last hours, halved for every :data:`LATELY_S`."""
    got_lately: Float64
    """Impressions that were delivered in them."""

    @property
    def rate(self) -> Float64:
        """Part of what was due of late that was delivered ``[campaigns]``, in [0, 1].

        1 where too little was due to tell.
        """
        due = np.maximum(self.planned_lately, 1e-9)
        told = self.planned_lately >= SMALLEST_SAMPLE
        return np.where(told, np.minimum(self.got_lately / due, 1.0), 1.0)

    @property
    def shortfall(self) -> Float64:
        """What was due of late and was not delivered, as a share of it ``[campaigns]``.

        In [-1, 1]; below 0: ahead. 0 where too little was due to tell. Unlike ``error`` it sees
        campaigns of which less than an impression is due in a step.
        """
        due = np.maximum(self.planned_lately, 1e-9)
        told = self.planned_lately >= SMALLEST_SAMPLE
        return np.where(told, np.clip((due - self.got_lately) / due, -1.0, 1.0), 0.0)

    @classmethod
    def start(cls, campaigns: int, at_unix_s: float) -> Prices:
        """Before the first step: all prices are 0."""
        nothing = np.zeros(campaigns)
        none = np.zeros(campaigns, np.int64)
        return cls(at_unix_s, nothing, nothing, nothing, none, nothing, nothing)


def planned(
    book: CampaignBook,
    traffic: TrafficProfile,
    since: Prices,
    until_unix_s: float,
    room_per_day: Float64,
) -> Float64:
    """Impressions that each campaign should get until a moment ``[campaigns]``.

    What is left of its budget, in proportion to the traffic that is left until shortly before its
    end; in the last of its traffic, everything that is left.

    Args:
        book: all campaigns.
        traffic: what to expect.
        since: the state until which impressions were delivered.
        until_unix_s: the moment.
        room_per_day: impressions that each could be given in a day, on average ``[campaigns]``;
            infinite where that is not known.
    """
    left = np.maximum(book.budget - since.delivered, 0)
    start = np.maximum(book.starts_unix_s, since.at_unix_s)
    ends = book.ends_unix_s
    due = traffic.between(start, np.minimum(ends, until_unix_s))
    expected = traffic.between(start, ends)
    last_chances = LAST_CHANCES / np.maximum(DAYS_A_WEEK * room_per_day, 1e-9)
    reserve = np.maximum(RESERVE * traffic.between(book.starts_unix_s, ends), last_chances)
    share = due / np.maximum(expected - reserve, 1e-12)
    return np.asarray(left * np.minimum(share, 1.0), np.float64)


def next_prices(
    book: CampaignBook,
    traffic: TrafficProfile,
    before: Prices,
    delivered: Int64,
    now_unix_s: float,
    room_per_day: Float64,
    settings: PacingSettings | None = None,
) -> Prices:
    """The prices from now on.

    Args:
        book: all campaigns.
        traffic: what to expect.
        before: of the step before.
        delivered: impressions confirmed or held until now ``[campaigns]``; falls when slots
            that were held lapse.
        now_unix_s: later than the step before.
        room_per_day: impressions that each could be given in a day, on average ``[campaigns]``;
            infinite where that is not known.
        settings: default: as chosen on simulated weeks (``docs/campaigns.md``).
    """
    chosen = settings or PacingSettings()
    plan = planned(book, traffic, before, now_unix_s, room_per_day)
    got = delivered - before.delivered
    runs = book.running(int(now_unix_s)) & (delivered < book.budget)
    # Small plans are noisy: one impression more or less is no reason for a great step.
    error = np.where(runs, np.clip((plan - got) / np.maximum(plan, SMALLEST_PLAN), -1.0, 1.0), 0.0)
    smoothed = chosen.memory * before.error + (1.0 - chosen.memory) * error
    bound = chosen.largest_price
    dual = np.where(runs, np.clip(before.dual + chosen.step * error, -bound, bound), 0.0)
    price = np.clip(dual + chosen.damping * smoothed, -bound, bound)
    forgotten = 2.0 ** (-(now_unix_s - before.at_unix_s) / LATELY_S)
    return Prices(
        at_unix_s=now_unix_s,
        price=np.where(runs, price, 0.0),
        dual=dual,
        error=np.where(runs, smoothed, 0.0),
        delivered=delivered,
        planned_lately=np.where(runs, forgotten * before.planned_lately + plan, 0.0),
        got_lately=np.where(runs, forgotten * before.got_lately + np.maximum(got, 0), 0.0),
    )
