"""What is known of a unit of an experiment: the columns that metrics and slices may name."""

from __future__ import annotations

PLURAL = {
    "impression": "impressions",
    "click": "clicks",
    "dwell": "dwells",
    "save": "saves",
    "share": "shares",
    "dismiss": "dismissals",
    "follow": "follows",
    "search": "searches",
    "swipe": "swipes",
}
"""Column that counts a unit's events of each type."""

POSITIVES = "positives"
"""Events that say that the doctor wanted the item, of all types together."""

COLUMNS = (*PLURAL.values(), POSITIVES, "dwell_s", "pages", "days", "sponsored")
"""Of a doctor, on pages that took part: events of each type, positive ones, seconds of dwelling,
pages, days with an event, and impressions of sponsored slots."""

CAMPAIGN_COLUMNS = (*PLURAL.values(), POSITIVES, "dwell_s")
"""Of a campaign, the same of events on its items, sponsored or not."""

BEFORE = "_before"
COVARIATES = tuple(
    f"{name}{BEFORE}" for name in (*PLURAL.values(), POSITIVES, "dwell_s", "sponsored")
)
"""The same of the time before the experiment, on its surfaces; a campaign's, on all of them."""

SLICES = ("specialty", "country", "language")
"""Of doctors; a doctor's first specialty."""

UNKNOWN = "unknown"
