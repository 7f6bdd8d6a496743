"""A serving log small enough to know what is in it: healthy, unless something is planted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from scipy import sparse

from recmesh.offline.diagnosis.serving_log import (
    DAY_S,
    NOTHING,
    Assignment,
    Doctors,
    Items,
    Pages,
    ServingLog,
    Slots,
    Traffic,
)
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.storage.interchange import CAMPAIGNS
from recmesh.storage.unix_time import NEVER_UNIX_S

START_S = 1_700_000_000.0
DAYS = 14
SPECIALTIES = ["cardiology", "neurology", "oncology", "urology"]
PAGES_EACH = 8
SLOTS = 5


@dataclass(frozen=True)
class Size:
    doctors: int = 160
    items: int = 400


def tiny_log(seed: int = 0, size: Size | None = None) -> ServingLog:
    """Doctors of four specialties who see items of their own and of others, old and new."""
    of = size or Size()
    rng = np.random.default_rng(seed)
    field = np.arange(of.doctors) % 4
    item_field = np.arange(of.items) % 4
    ones = np.ones(of.items)
    # Four topics a specialty.
    topic = item_field * 4 + rng.integers(0, 4, of.items)
    published = START_S + DAY_S * rng.uniform(-200, DAYS, of.items)
    # A week's worth of what is out is new, as in a catalogue that grows steadily.
    items = Items(
        item_ids=[f"i{n}" for n in range(of.items)],
        topics=sparse.csr_matrix((ones, (np.arange(of.items), topic)), shape=(of.items, 16)),
        specialties=sparse.csr_matrix(
            (ones, (np.arange(of.items), item_field)), shape=(of.items, 4)
        ),
        published_unix_s=published.astype(np.int64),
        expires_unix_s=np.full(of.items, NEVER_UNIX_S, np.int64),
        vectors=_unit(rng.standard_normal((of.items, 8))),
    )
    history = np.zeros((of.doctors, of.items))
    for doctor in range(of.doctors):
        history[doctor, _picked(rng, field[doctor], item_field, 10)] = 1.0
    doctor = np.repeat(np.arange(of.doctors), PAGES_EACH)
    page_s = START_S + DAY_S * rng.uniform(0, DAYS, len(doctor))
    order = np.argsort(page_s)
    doctor, page_s = doctor[order], page_s[order]
    shown = np.concatenate(
        [
            _picked(rng, field[d], item_field, SLOTS, published <= now)
            for d, now in zip(doctor, page_s, strict=True)
        ]
    )
    slots = Slots(
        doctor=np.repeat(doctor, SLOTS),
        item=shown,
        unix_s=np.repeat(page_s, SLOTS),
        surface=np.zeros(len(shown), np.int64),
        rank=np.tile(np.arange(1, SLOTS + 1), len(doctor)),
        clicked=rng.random(len(shown)) < 0.2,
        campaign=np.full(len(shown), NOTHING),
        scores=np.clip(0.2 + 0.05 * rng.standard_normal((len(shown), 1)), 0, 1).astype(np.float32),
    )
    pages = Pages(
        doctor=doctor,
        unix_s=page_s,
        surface=np.zeros(len(doctor), np.int64),
        requested=np.full(len(doctor), SLOTS),
        filled=np.full(len(doctor), SLOTS),
        candidates=np.full(len(doctor), 100),
        degraded=np.zeros((len(doctor), 1), bool),
        offered_diversity=np.full(len(doctor), 0.9),
    )
    return ServingLog(
        start_unix_s=START_S,
        end_unix_s=START_S + DAYS * DAY_S,
        surfaces=["feed"],
        asked=np.array([False]),
        doctors=Doctors(
            user_ids=[f"d{n}" for n in range(of.doctors)],
            specialty=field,
            country=np.arange(of.doctors) // 4 % 2,
            specialty_names=SPECIALTIES,
            country_names=["DE", "FR"],
            history=sparse.csr_matrix(history),
        ),
        items=items,
        slots=slots,
        campaigns=campaigns(400),
        traffic=Traffic(slots.doctor, slots.unix_s, slots.campaign),
        scorers=["cf"],
        sources=["cf"],
        pages=pages,
        assignments=(assignment(of.doctors // 2, of.doctors // 2),),
    )


def _picked(
    rng: np.random.Generator,
    field: int,
    item_field: np.ndarray,
    count: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Distinct items, three times as likely of the own field."""
    weight = np.where(item_field == field, 3.0, 1.0)
    if out is not None:
        weight = weight * out
    return rng.choice(len(weight), count, replace=False, p=weight / weight.sum())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def campaigns(budget: int, days: float = DAYS) -> CampaignBook:
    """One campaign that runs from the period's start."""
    row = {
        "campaign_id": "spring",
        "sponsor": "S",
        "item_ids": ["i0"],
        "specialties": [],
        "countries": [],
        "languages": [],
        "starts_at": int(1000 * START_S),
        "ends_at": int(1000 * (START_S + days * DAY_S)),
        "budget_impressions": budget,
        "frequency_cap_per_day": 0,
        "value": 0.5,
        "disclosure": "Sponsored by S",
    }
    columns = {
        f.name: pa.array([row[f.name]], pa.int64()).cast(f.type)
        if pa.types.is_timestamp(f.type)
        else pa.array([row[f.name]], f.type)
        for f in CAMPAIGNS.columns
    }
    return CampaignBook.of(pa.table(columns, schema=CAMPAIGNS.columns))


def assignment(control: int, treatment: int) -> Assignment:
    """An experiment, half and half by its plan, with these many doctors an arm."""
    arm = np.repeat([0, 1], [control, treatment])
    return Assignment(
        "header", {"control": 0.5, "treatment": 0.5}, arm, np.arange(control + treatment)
    )


def with_slots(log: ServingLog, **changed: np.ndarray) -> ServingLog:
    """The log with other columns of its slots."""
    slots = replace(log.slots, **changed)
    return replace(log, slots=slots, traffic=Traffic(slots.doctor, slots.unix_s, slots.campaign))


def with_pages(log: ServingLog, **changed: np.ndarray) -> ServingLog:
    """The log with other columns of its pages."""
    assert log.pages is not None
    return replace(log, pages=replace(log.pages, **changed))
