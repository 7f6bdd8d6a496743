"""What an experiment is: its arms, its part of a layer's traffic, and when it runs.

A layer splits all units into :data:`BUCKETS` buckets, and every experiment owns a run of buckets
of one layer. Experiments of one layer therefore never share a unit; those of different layers
overlap independently of each other (Tang, Agarwal, O'Brien & Meyer, "Overlapping Experiment
Infrastructure", KDD 2010).
"""

from __future__ import annotations

from datetime import datetime
from itertools import combinations
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from recmesh.storage.errors import ConfigurationError

BUCKETS = 10_000
"""Buckets of a layer; also the resolution of arms' shares."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]


INTERLEAVED = "interleaved"
"""What the pages of an interleaved experiment have for an arm: their slots are of both."""
State = Literal["created", "waiting", "running", "ended", "stopped"]
ALL = "*"
"""Names all campaigns."""


class Arm(BaseModel):
    """One treatment. ``share`` of the experiment's units get it, in (0, 1].

    What it does not say is as without the experiment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    share: float = Field(gt=0, le=1)
    policy: str = ""
    """Version that makes the pages; empty: the one that is live."""
    embedding: str = ""
    """Embedding version that is searched; empty: the one that is live."""
    models: dict[Name, str] = {}
    """Version that answers for a model, by model; others: the one that is live."""
    without_campaigns: tuple[str, ...] = ()
    """Campaigns that offer nothing on the pages; :data:`ALL`: none does."""
    takes_part: bool = True
    """Whether campaigns of this arm offer anything; where the units are campaigns."""

    @property
    def steers(self) -> bool:
        """Whether it says how pages are made."""
        return bool(self.policy or self.embedding or self.models)


class Experiment(BaseModel):
    """A comparison of arms on a part of a layer. The first arm is the control."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    layer: Name
    kind: Literal["ab", "interleave"] = "ab"
    """Each unit gets one arm, or every page has slots of both."""
    unit: Literal["doctor", "campaign"] = "doctor"
    surfaces: tuple[Name, ...] = ()
    """Where it runs; empty: everywhere."""
    arms: tuple[Arm, ...] = Field(min_length=2)
    first_bucket: int = Field(ge=0, lt=BUCKETS)
    buckets: int = Field(ge=1, le=BUCKETS)
    ramp: float = Field(default=1.0, ge=0, le=1)
    """Share of its buckets that take part, from the first on: raising it only adds units."""
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    """The first moment after it."""
    killed: bool = False
    """Stops it at once: no unit takes part."""

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"arms: {twice} is named twice")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"arms: shares add up to {total:g}; they must add up to 1")
        if INTERLEAVED in names:
            raise ValueError(f"arms: {INTERLEAVED} is the name for pages of both arms")
        too_small = next((arm for arm in self.arms if arm.share * BUCKETS < 1), None)
        if too_small:
            raise ValueError(
                f"arms: the share of {too_small.name} is {too_small.share:g}; "
                f"the smallest is {1 / BUCKETS:g}"
            )
        if self.first_bucket + self.buckets > BUCKETS:
            raise ValueError(
                f"buckets: {self.first_bucket} + {self.buckets} goes past the layer's {BUCKETS}"
            )
        if self.starts_at >= self.ends_at:
            raise ValueError(f"ends_at: {self.ends_at} is not after starts_at {self.starts_at}")
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> Experiment:
        held = [arm.name for arm in self.arms if not arm.takes_part]
        if self.unit == "campaign":
            if self.kind == "interleave" or any(
                arm.steers or arm.without_campaigns for arm in self.arms
            ):
                raise ValueError("arms: of campaigns, an arm says takes_part and nothing else")
            if not held or len(held) == len(self.arms):
                raise ValueError(
                    "arms: of campaigns, at least one arm takes part and at least one does not"
                )
            if self.surfaces:
                raise ValueError("surfaces: campaigns take part on all of them or on none")
        elif held:
            raise ValueError(f"arms: {held[0]} has takes_part, which is for the unit campaign")
        if self.kind == "interleave":
            if len(self.arms) != 2 or self.arms[0].share != self.arms[1].share:
                raise ValueError("arms: an interleaved page has slots of 2 arms, half and half")
            if any(arm.without_campaigns for arm in self.arms):
                raise ValueError("arms: interleaved pages have no campaigns to leave out")
            ways = {(arm.policy, arm.embedding, *sorted(arm.models.items())) for arm in self.arms}
            if len(ways) < 2:
                raise ValueError("arms: both are the same, so no slot tells them apart")
            if not self.surfaces:
                raise ValueError("surfaces: say where pages are interleaved")
        return self

    @property
    def steers(self) -> bool:
        """Whether it says how pages are made, so that no other may on the same page."""
        return any(arm.steers for arm in self.arms)

    def shares_surface(self, other: Experiment) -> bool:
        """Whether a page may take part in both."""
        mine, others = set(self.surfaces), set(other.surfaces)
        return not mine or not others or bool(mine & others)

    def may_meet(self, other: Experiment) -> bool:
        """Whether a unit could take part in both at one moment, were the buckets the same."""
        return (
            self.unit == other.unit
            and not self.killed
            and not other.killed
            and self.starts_at < other.ends_at
            and other.starts_at < self.ends_at
        )

    def state(self, now: datetime) -> State:
        """Where it is in its life."""
        if self.killed:
            return "stopped"
        if self.ramp == 0:
            return "created"
        if now < self.starts_at:
            return "waiting"
        return "running" if now < self.ends_at else "ended"

    @property
    def exposed_buckets(self) -> int:
        """How many of its buckets take part at the present ramp."""
        return int(self.buckets * self.ramp + 1e-9)


class Layer(BaseModel):
    """A way to split all units. Another ``salt`` splits them anew, independently of before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    salt: str = Field(min_length=1, max_length=128)


class ExperimentBook(BaseModel):
    """All layers and experiments, and the holdout that takes part in none of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[Layer, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    holdout_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of all units that are kept out of every experiment; raising it only adds units."""
    holdout_salt: str = Field(default="holdout", min_length=1, max_length=128)

    @model_validator(mode="after")
    def _disjoint(self) -> ExperimentBook:
        for kind, names in (
            ("layers", [layer.name for layer in self.layers]),
            ("experiments", [experiment.name for experiment in self.experiments]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise ValueError(f"{kind}: {twice} is named twice")
        salts = [layer.salt for layer in self.layers] + [self.holdout_salt]
        shared = next((salt for salt in salts if salts.count(salt) > 1), None)
        if shared:
            raise ValueError(
                f"layers: salt {shared!r} is used twice; layers are independent "
                f"of each other and of the holdout only with salts of their own"
            )
        known = {layer.name for layer in self.layers}
        for experiment in self.experiments:
            if experiment.layer not in known:
                raise ValueError(
                    f"experiments: {experiment.name} is in layer {experiment.layer}, "
                    f"which is not defined; defined: {', '.join(sorted(known)) or 'none'}"
                )
        for first, second in combinations(self.experiments, 2):
            if not first.may_meet(second):
                continue
            if first.layer == second.layer:
                _require_own_buckets(first, second)
            elif first.steers and second.steers and first.shares_surface(second):
                raise ValueError(
                    f"experiments: {first.name} in layer {first.layer} and {second.name} in layer "
                    f"{second.layer} both say how the same pages are made; put them in one layer"
                )
        return self


def _require_own_buckets(first: Experiment, second: Experiment) -> None:
    at = max(first.first_bucket, second.first_bucket)
    if at < min(e.first_bucket + e.buckets for e in (first, second)):
        raise ValueError(
            f"experiments: {first.name} and {second.name} share bucket {at} of layer {first.layer}"
        )


def require_successor(before: Experiment, after: Experiment) -> None:
    """Checks that a new definition of a running experiment moves no unit between arms.

    The ramp may rise, the end may move, the experiment may be killed. Everything else decides
    which unit gets which arm: change it under a new name.

    Raises:
        ConfigurationError: the change would move or take out units.
    """
    fixed = ("name", "layer", "kind", "unit", "surfaces", "arms", "first_bucket", "buckets")
    for field in (*fixed, "starts_at"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            raise ConfigurationError(
                f"experiment {before.name}: {field} cannot change while it runs "
                f"({old} to {new}); start an experiment with a new name"
            )
    if after.ramp < before.ramp:
        raise ConfigurationError(
            f"experiment {before.name}: ramp cannot fall from {before.ramp:g} to {after.ramp:g}, "
            f"which would take units out; kill it and start one with a new name"
        )
    if before.killed and not after.killed:
        raise ConfigurationError(
            f"experiment {before.name}: it was killed, and its units have seen the default since; "
            f"start an experiment with a new name"
        )
