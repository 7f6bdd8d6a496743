"""Coleman, Katz and Menzel's physicians: who asks whom, and when each took up tetracycline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import rdata

from recmesh.offline.datasets.conversion import Conversion, Rows
from recmesh.storage.errors import DataError

DRUG = "tetracycline"
EDGE_TYPES = {"1": "advice", "2": "discussion", "3": "friend"}
PHYSICIANS = 246
TOWN_OFFSETS = {1: 0, 2: 117, 3: 167, 4: 211}
"""The survey counts respondents within a town, the network counts on: 117, 50, 44 and 35.

The survey's own nominations, shifted so, equal the network's in 367 of 375 cases.
"""
NEVER = 18
"""The survey's month of those who had not adopted when it ended, after 17 months."""


def _month(number: int) -> datetime:
    """First day of a month counted from November 1953 as 1."""
    since_1953 = 9 + number
    return datetime(1953 + since_1953 // 12, since_1953 % 12 + 1, 1, tzinfo=UTC)


def convert(source: Path) -> Conversion:
    """All physicians as users, ties as edges, adoption as a click on the one item.

    Of the surveyed 125 only the adoption month is used: the other answers are codes whose
    meaning the data does not give.
    """
    lines = (source / "CKM-Physicians-Innovation_multiplex.edges").read_text().splitlines()
    ties = [line.split() for line in lines if line.strip()]
    try:
        survey = rdata.read_rda(source / "medInnovations.rdata")["medInnovations"]
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged files raise whatever they hit
        raise DataError(f"medInnovations.rdata is not readable: {error}") from error
    adopted = {
        TOWN_OFFSETS[int(town)] + int(respondent): int(month)
        for town, respondent, month in zip(survey.city, survey.id, survey.toa, strict=True)
    }
    rows: Rows = {
        "items": [
            {
                "item_id": DRUG,
                "content_type": "drug",
                "title": DRUG.capitalize(),
                "published_at": _month(1),
            }
        ],
        "users": [{"user_id": str(number)} for number in range(1, PHYSICIANS + 1)],
        "edges": [
            {"source_user_id": a, "target_user_id": b, "edge_type": EDGE_TYPES[layer]}
            for layer, a, b, _ in ties
        ],
        "events": [
            {
                "event_id": f"{number}-{DRUG}",
                "user_id": str(number),
                "item_id": DRUG,
                "event_type": "click",
                "time": _month(month),
            }
            for number, month in sorted(adopted.items())
            if month < NEVER
        ],
    }
    never = sum(month >= NEVER for month in adopted.values())
    return Conversion(
        rows,
        {
            "surveyed physicians who did not adopt": never,
            "physicians whose adoption is unknown": PHYSICIANS - len(adopted),
        },
    )
