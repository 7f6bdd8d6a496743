"""The experiments as one orchestrator serves them: which arms a request gets, and what they change.

Made anew whenever the book changes, with every policy and embedding version that an arm names, so
that a request finds everything in memory and takes all of it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.experiments.assignment import assign, runs
from recmesh.orchestrator.experiments.experiment import (
    INTERLEAVED,
    Arm,
    Experiment,
    ExperimentBook,
)
from recmesh.orchestrator.policy import Policy
from recmesh.storage.embedding_registry import EmbeddingVersion


@dataclass(frozen=True, slots=True)
class PageMaking:
    """What makes pages, where it is not what is live."""

    policy: Policy | None = None
    """None: the one that is live."""
    embedding: EmbeddingVersion | None = None
    """None: the one that is live."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Who is asked instead of a model's live version, by model."""


AS_LIVE = PageMaking()


@dataclass(frozen=True, slots=True)
class Drafting:
    """An experiment whose two arms pick the slots of a page in turn."""

    experiment: str
    arms: tuple[str, str]
    makings: tuple[PageMaking, PageMaking]


@dataclass(frozen=True, slots=True)
class RequestArms:
    """What experiments make of one request."""

    arms: Mapping[str, str]
    """By experiment."""
    making: PageMaking = AS_LIVE
    drafting: Drafting | None = None
    """Of an interleaved page."""
    without_campaigns: frozenset[str] = frozenset()
    """Campaigns that offer nothing; ``*``: none does."""


UNTOUCHED = RequestArms({})


MakingKey = tuple[str, str, frozenset[tuple[str, str]]]
"""Versions of policy, embedding and models."""


def makings_key(arm: Arm) -> MakingKey:
    """What an arm's pages are made by."""
    return arm.policy, arm.embedding, frozenset(arm.models.items())


@dataclass(slots=True)
class ServedExperiments:
    """Assigns arms to requests. Belongs to one event loop."""

    book: ExperimentBook = field(default_factory=ExperimentBook)
    """What can be served: every version that an arm names is in ``makings``."""
    makings: Mapping[MakingKey, PageMaking] = field(default_factory=dict)
    """By :func:`makings_key`."""
    _of_doctors: ExperimentBook = field(init=False)
    _of_campaigns: tuple[Experiment, ...] = field(init=False)
    _by_name: dict[str, Experiment] = field(init=False)
    _held_back: tuple[CampaignBook, tuple[str, ...], frozenset[str]] | None = field(
        init=False, default=None
    )
    """Campaigns of arms that do not take part, for one book and the tests that ran."""

    def __post_init__(self) -> None:
        live = [e for e in self.book.experiments if not e.killed and e.exposed_buckets]
        doctors = tuple(e for e in live if e.unit == "doctor")
        layers = {e.layer for e in doctors}
        self._of_doctors = self.book.model_copy(
            update={
                "experiments": doctors,
                "layers": tuple(layer for layer in self.book.layers if layer.name in layers),
            }
        )
        self._of_campaigns = tuple(e for e in live if e.unit == "campaign")
        self._by_name = {e.name: e for e in doctors}

    def of(
        self, user_id: str, surface: str, campaigns: CampaignBook, now_unix_s: float
    ) -> RequestArms:
        """What a request of this doctor on this surface gets now."""
        held_back = self._campaigns_held_back(campaigns, now_unix_s)
        if not self._of_doctors.experiments:
            return RequestArms({}, without_campaigns=held_back) if held_back else UNTOUCHED
        arms = assign(self._of_doctors, user_id, now_unix_s, surface=surface)
        making, drafting = AS_LIVE, None
        for name, arm_name in arms.items():
            experiment = self._by_name[name]
            if arm_name == INTERLEAVED:
                drafting = self._drafting(experiment)
                making = drafting.makings[0]
                continue
            arm = next(arm for arm in experiment.arms if arm.name == arm_name)
            if arm.steers:
                making = self.makings[makings_key(arm)]
            if arm.without_campaigns:
                held_back |= frozenset(arm.without_campaigns)
        return RequestArms(arms, making, drafting, held_back)

    def _drafting(self, experiment: Experiment) -> Drafting:
        first, second = experiment.arms
        return Drafting(
            experiment.name,
            (first.name, second.name),
            (self._making(first), self._making(second)),
        )

    def _making(self, arm: Arm) -> PageMaking:
        return self.makings[makings_key(arm)] if arm.steers else AS_LIVE

    def _campaigns_held_back(self, campaigns: CampaignBook, now_unix_s: float) -> frozenset[str]:
        running = tuple(e.name for e in self._of_campaigns if runs(e, now_unix_s))
        if not running:
            return frozenset()
        known = self._held_back
        if known is None or known[0] is not campaigns or known[1] != running:
            found = frozenset(self._not_taking_part(campaigns, now_unix_s))
            self._held_back = known = campaigns, running, found
        return known[2]

    def _not_taking_part(self, campaigns: CampaignBook, now_unix_s: float) -> set[str]:
        taking = {e.name: {a.name for a in e.arms if a.takes_part} for e in self._of_campaigns}
        return {
            campaign_id
            for campaign_id in campaigns.campaign_ids
            for name, arm in assign(self.book, campaign_id, now_unix_s, unit="campaign").items()
            if arm not in taking[name]
        }
