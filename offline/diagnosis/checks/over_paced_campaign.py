"""An over-paced campaign: delivered faster than its traffic comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from recmesh.offline.diagnosis.check import Check
from recmesh.offline.diagnosis.evidence import Bounds, Rows, columns_of, measure, ratio
from recmesh.offline.diagnosis.finding import Answer, TooFew
from recmesh.offline.diagnosis.serving_log import Bool, ServingLog
from recmesh.orchestrator.campaigns.traffic_profile import TrafficProfile

BOUNDS = Bounds(allowed=1.4, severe=2.0, worse="above")
LEAST_DUE = 15.0
LEAST_SEEN = 30


def over_paced_campaign(log: ServingLog) -> Sequence[Answer]:
    """One number for every campaign that ran in the period, from its start on."""
    shown, book = log.traffic, log.campaigns
    profile = TrafficProfile.of(shown.unix_s.astype(np.int64))
    answers: list[Answer] = []
    for campaign, name in enumerate(book.campaign_ids):
        mine = shown.campaign == campaign
        ends = float(book.ends_unix_s[campaign])
        if ends <= log.start_unix_s or not mine.any():
            continue
        budget = int(book.budget[campaign])
        begins = max(float(book.starts_unix_s[campaign]), float(shown.unix_s[0]))
        until = min(ends, log.end_unix_s)
        if mine.sum() >= budget:
            # From here on, a campaign that has everything would look slower than it was.
            until = float(shown.unix_s[mine][budget - 1])
        coming = float(profile.between(begins, ends))
        due = budget * float(profile.between(begins, until)) / max(coming, 1e-9)
        within = (shown.unix_s >= begins) & (shown.unix_s <= until)
        subject = f"campaign {name}"
        if due < LEAST_DUE and (mine & within).sum() < LEAST_SEEN:
            answers.append(
                TooFew(subject, f"{due:.0f} impressions due until now; needs {LEAST_DUE:.0f}")
            )
            continue
        answers.append(_pace(log, mine, within, subject, due))
    return answers


def _pace(log: ServingLog, mine: Bool, within: Bool, subject: str, due: float) -> Answer:
    """What is due is spread evenly over the impressions of its time."""
    shown = log.traffic
    count = int(within.sum())
    rows = Rows(
        shown.doctor,
        shown.unix_s,
        np.zeros(len(shown), np.int64),
        columns_of(mine, np.full(len(shown), due / count)),
    ).at(within)
    its_time = replace(log, start_unix_s=float(rows.unix_s[0]), end_unix_s=float(rows.unix_s[-1]))
    note = f"{int((mine & within).sum()):,} impressions, {due:,.0f} due"
    return measure(
        its_time, rows, ratio(), BOUNDS, subject=subject, note=note, sliced=False, times=True
    )


CHECK = Check(
    id="over-paced-campaign",
    title="An over-paced campaign",
    measures="Impressions delivered over those due, from the campaign's start until now or until "
    "its budget was spent; due is the budget times the share of its traffic that has come.",
    source="even delivery against traffic: Agarwal et al., KDD 2014 (budget pacing)",
    unit="times",
    sentence="{subject} delivered {value} what was due by then.",
    lever="Look at its price (recmesh campaigns report) and the pacer's step; lower "
    "campaigns.largest_price or set frequency_cap_per_day.",
    run=over_paced_campaign,
)
