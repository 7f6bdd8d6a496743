"""The policy: blend weights and slate rules of every surface, versioned by content.

Read once from a TOML file, frozen, and taken as one snapshot by each request. A policy
that cannot work is refused on load with the rule and the value.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from recmesh.orchestrator.catalog import DEFAULT_POPULARITY_HALF_LIFE_DAYS
from recmesh.orchestrator.objectives.freshness import EVERY_OTHER_TYPE
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from recmesh.orchestrator.operating_point import OperatingPoint, preferred_point
from recmesh.orchestrator.page_token import MAX_SLOTS
from recmesh.orchestrator.relevance_feedback import FeedbackSettings
from recmesh.orchestrator.search_fusion import FusionSettings
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.storage.errors import ConfigurationError

DEFAULT_POLICY = Path(__file__).parent / "policies" / "default.toml"


TABLES_OF_DEFAULTS = ("slate", "campaigns", "half_life_days")
"""A surface that has one of these gives only what differs from the defaults' table."""


def _over(defaults: dict[str, Any], surface: dict[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **surface}
    for name in TABLES_OF_DEFAULTS:
        if isinstance(defaults.get(name), dict) and isinstance(surface.get(name), dict):
            merged[name] = {**defaults[name], **surface[name]}
    return merged


class CampaignRules(BaseModel):
    """What sponsored slots may cost a surface's pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_price: float = Field(ge=0, le=1, default=0.6)
    """The most utility that a campaign's price adds to its slot, or takes from it."""
    most_organic_loss: float = Field(ge=0, le=1, default=0.1)
    """Share of a page's organic utility that its sponsored slots may cost; see docs/campaigns.md"""


class SurfacePolicy(BaseModel):
    """How one surface fills its page. Fields are explained in ``policies/default.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    universe: Literal["items", "users"]
    query: Literal["required", "none"] = "none"
    sources: tuple[str, ...] = Field(min_length=1)
    model_weights: dict[str, float]
    affinity_weights: dict[str, float] = {}
    objective_weights: dict[str, float]
    source_limit: int = Field(ge=1, le=5000)
    page_size: int = Field(ge=1, le=100)
    source_timeout_s: float = Field(gt=0, le=10)
    deadline_s: float = Field(gt=0, le=10)
    hide_seen: bool = True
    fusion: FusionSettings = FusionSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    front: tuple[OperatingPoint, ...] = ()
    slate: SlateRules
    campaigns: CampaignRules = CampaignRules()
    pins: dict[str, Annotated[int, Field(ge=1)]] = {}
    boosts: dict[str, Annotated[float, Field(ge=-1, le=1)]] = {}
    blocks: tuple[str, ...] = ()
    half_life_days: dict[str, Annotated[float, Field(gt=0)]]

    @field_validator("model_weights", "affinity_weights", "objective_weights")
    @classmethod
    def _non_negative(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if not 0.0 <= weight < float("inf"):
                raise ValueError(f"weight of {name} is {weight}; weights are finite and ≥ 0")
        if weights and sum(weights.values()) <= 0:
            raise ValueError("all weights are 0; at least one must be above 0")
        return weights

    @field_validator("half_life_days")
    @classmethod
    def _has_default(cls, days: dict[str, float]) -> dict[str, float]:
        if EVERY_OTHER_TYPE not in days:
            raise ValueError(f"{EVERY_OTHER_TYPE} is missing, for types that are not named")
        return days

    @field_validator("pins")
    @classmethod
    def _one_each(cls, pins: dict[str, int]) -> dict[str, int]:
        for slot in pins.values():
            same = [item_id for item_id, other in pins.items() if other == slot]
            if len(same) > 1:
                raise ValueError(f"slot {slot} is given to {' and '.join(same)}")
        return pins

    @field_validator("objective_weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(weights) - set(OBJECTIVES))
        if unknown:
            raise ValueError(f"unknown objective {unknown[0]}; known: {', '.join(OBJECTIVES)}")
        return weights

    @model_validator(mode="after")
    def _some_slate_meets_the_rules(self) -> SurfacePolicy:
        both = sorted(self.pins.keys() & set(self.blocks))
        if both:
            raise ValueError(f"item {both[0]} is pinned and blocked: no slate can meet that")
        for item_id, slot in self.pins.items():
            if slot > MAX_SLOTS:
                raise ValueError(f"item {item_id} is pinned to slot {slot}; pages have {MAX_SLOTS}")
        if 0 < self.slate.sponsored_share < 1 / MAX_SLOTS:
            raise ValueError(
                f"sponsored_share {self.slate.sponsored_share} is less than one slot of "
                f"{MAX_SLOTS}: no slate can have a sponsored one"
            )
        return self

    @model_validator(mode="after")
    def _affinity_has_models(self) -> SurfacePolicy:
        if self.objective_weights.get("affinity", 0.0) > 0 and not self.affinity_weights:
            raise ValueError("objective affinity is weighed, but affinity_weights names no model")
        if self.affinity_weights and self.query == "none":
            raise ValueError(
                "affinity_weights are for surfaces with a query: without one, model_weights "
                "are the models' opinion of the user already"
            )
        return self

    def at(self, preferences: Mapping[str, float]) -> SurfacePolicy:
        """The surface as the preferences for objectives ask for: a point of its front.

        Itself when it has no front, or nothing is preferred.
        """
        if not self.front or not any(preferences.values()):
            return self
        point = preferred_point(self.front, preferences)
        slate = self.slate.model_copy(
            update={
                "diversity_strength": point.diversity_strength,
                "calibration_weight": point.calibration_weight,
            }
        )
        campaigns = self.campaigns
        if point.largest_price is not None:
            campaigns = campaigns.model_copy(update={"largest_price": point.largest_price})
        half_life_days = {**self.half_life_days, EVERY_OTHER_TYPE: point.half_life_days}
        return self.model_copy(
            update={
                "model_weights": point.model_weights,
                "objective_weights": point.objective_weights,
                "half_life_days": half_life_days,
                "slate": slate,
                "campaigns": campaigns,
            }
        )

    @field_validator("front")
    @classmethod
    def _measured_alike(cls, front: tuple[OperatingPoint, ...]) -> tuple[OperatingPoint, ...]:
        for point in front:
            if set(point.metrics) != set(front[0].metrics):
                raise ValueError("all points have the same metrics")
            cls._known(point.objective_weights)
        return front


class Policy(BaseModel):
    """One version of the policy of every surface."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    popularity_half_life_days: float = Field(gt=0, default=DEFAULT_POPULARITY_HALF_LIFE_DAYS)
    frequency_cap_per_day: int = Field(ge=1, default=2)
    """Impressions of a campaign that a user may get in 24 hours, where it has no cap of its own."""
    surfaces: dict[str, SurfacePolicy]

    @classmethod
    def load(cls, path: Path = DEFAULT_POLICY) -> Policy:
        """Reads and checks a policy file.

        Raises:
            ConfigurationError: the file is missing or breaks a rule; the message names
                the file, the place and the value.
        """
        try:
            return cls.read(path.read_bytes(), str(path))
        except FileNotFoundError as error:
            raise ConfigurationError(f"policy file {path} does not exist") from error

    @classmethod
    def read(cls, raw: bytes, path: str) -> Policy:
        """Checks a policy's TOML; ``path`` names it in errors. Raises as :meth:`load` does."""
        try:
            parsed: dict[str, Any] = tomllib.loads(raw.decode())
            defaults = parsed.get("defaults", {})
            surfaces = {
                name: _over(defaults, surface) for name, surface in parsed["surfaces"].items()
            }
            digest = hashlib.sha256(raw).hexdigest()[:12]
            del parsed["surfaces"]
            parsed.pop("defaults", None)
            return cls.model_validate(
                {**parsed, "version": f"{parsed['name']}-{digest}", "surfaces": surfaces}
            )
        except KeyError as error:
            raise ConfigurationError(f"policy {path}: section {error} is missing") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
            raise ConfigurationError(f"policy {path}: {error}") from error

    def patient(self, wait_s: float) -> Policy:
        """The policy with ``wait_s`` for every request and source: nobody waits for the pages."""
        surfaces = {
            name: surface.model_copy(update={"source_timeout_s": wait_s, "deadline_s": wait_s})
            for name, surface in self.surfaces.items()
        }
        return self.model_copy(update={"surfaces": surfaces})
