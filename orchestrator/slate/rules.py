"""The rules of a surface's pages, and which of them give way first."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

RELAXATION_ORDER = (
    "exploration_slots",
    "max_per_topic_recently",
    "max_per_author_recently",
    "max_per_topic",
    "max_per_author",
)
"""Rules that may give way, first to last: a slot is filled by a candidate whose last broken
rule comes as early as there is any. All other rules are never broken."""

PINS = "pins"
"""Named when a pin is not at its slot: another hard rule forbids it, or the page ends before."""


class SlateRules(BaseModel):
    """What every page of a surface holds to.

    All rules hold for the first ``m`` slots of a slate, whatever ``m`` is, so that pages are
    cuts of one slate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    diversity: Literal["mmr", "dpp"] = "mmr"
    """How likeness of items costs: to the nearest one shown (``mmr``), or the volume that all
    of them span (``dpp``)."""
    diversity_strength: float = Field(ge=0, le=1, default=0.0)
    """0: utility alone; 1: diversity alone."""
    calibration_weight: float = Field(ge=0, le=10, default=0.0)
    """Utility that a slot may cost to bring the page nearer to the user's interests."""
    max_per_topic: int | None = Field(ge=1, default=None)
    """None, here and below: no cap."""
    max_per_author: int | None = Field(ge=1, default=None)
    max_per_sponsor: int | None = Field(ge=1, default=None)
    """Sponsored slots of one sponsor; never relaxed."""
    max_per_topic_recently: int | None = Field(ge=1, default=None)
    """Together with what was shown lately, on all surfaces. So are the next two."""
    max_per_author_recently: int | None = Field(ge=1, default=None)
    max_per_sponsor_recently: int | None = Field(ge=1, default=None)
    """Never relaxed."""
    recently_h: float = Field(gt=0, le=24, default=24.0)
    """How long ago "recently" begins, in hours."""
    temperature: float = Field(ge=0, le=1, default=0.0)
    """Of chance in filling slots, in units of utility; 0: there is none."""
    most_chance_loss: float = Field(ge=0, le=1, default=0.02)
    """The most utility that chance may cost a slot."""
    sponsored_share: float = Field(ge=0, le=1, default=0.0)
    """Largest share of sponsored slots, wherever the user stops; never relaxed."""
    sponsored_spacing: int = Field(ge=0, default=0)
    """Smallest number of other slots between sponsored ones; never relaxed."""
    exploration_slots: tuple[int, ...] = ()
    """Slots, from 1, that are reserved for candidates that explore."""
    explores_below: float = Field(gt=0, default=1.0)
    """Who explores: items of which fewer positive events speak, each halved by its age."""

    @field_validator("exploration_slots")
    @classmethod
    def _from_one(cls, slots: tuple[int, ...]) -> tuple[int, ...]:
        for slot in slots:
            if slot < 1:
                raise ValueError(f"slot {slot}; slots are counted from 1")
        return slots
