"""A canary is an experiment: some doctors' pages ask the new version, as many others are compared.

The experiment is in the layer of all others that change pages, sticky by doctor, in every page,
token and event, analysed like any other (`recmesh experiment analyze`), and stopped at once by the
orchestrators' guard or by its guardrails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tomli_w

from recmesh.cli.named_version import NamedVersion
from recmesh.models.declaration import ModelDeclaration
from recmesh.offline.experiments.experiment_file import ExperimentFile
from recmesh.orchestrator.experiments.experiment import BUCKETS, Experiment
from recmesh.orchestrator.experiments.experiment_store import StoredExperiments
from recmesh.orchestrator.policy import Policy
from recmesh.storage.errors import ConfigurationError

LAYER = "pages"
CANARY = "canary"
"""Name of the arm; the control is the other."""
LEAST_HARM = 0.1
"""A canary is rolled back once it is shown to lose a larger share of engagement than this."""
ALPHA = 0.01
LETTERS = 8


def _prefix(model: str) -> str:
    return f"{CANARY}-{model}-"


def canaries(stored: StoredExperiments, model: str) -> list[Experiment]:
    """All canaries of a model that there ever were, oldest first."""
    return [
        one
        for one in stored.book.experiments
        if one.name.startswith(_prefix(model)) and model in one.arms[-1].models
    ]


def running_canary(stored: StoredExperiments, model: str) -> Experiment | None:
    """The one that was not stopped; None: there is none."""
    return next((one for one in canaries(stored, model) if not one.killed), None)


def most_percent(canary: Experiment) -> float:
    """Percent of doctors that it may grow to; as many more are its control."""
    return 50.0 * canary.buckets / BUCKETS


@dataclass(frozen=True, slots=True)
class CanaryFile:
    """An experiment file for a version of a model."""

    text: str
    file: ExperimentFile


def canary_file(
    named: NamedVersion,
    live: str,
    policy: Policy,
    declaration: ModelDeclaration,
    stored: StoredExperiments,
    *,
    most: float,
    days: float,
    doctors: int,
) -> CanaryFile:
    """The experiment of one canary.

    Args:
        named: the version on trial.
        live: version that it is compared with; empty: there is none.
        policy: that serves.
        declaration: of the model; says its share of relevance where the policy weighs it nowhere.
        stored: experiments that there are.
        most: percent of doctors that it may grow to.
        days: that it may run.
        doctors: that there are.

    Raises:
        ConfigurationError: no surface's policy weighs the model, and the declaration says no share.
    """
    before = [one.name for one in canaries(stored, named.model)]
    name = f"{_prefix(named.model)}{named.version[:LETTERS]}"
    times = sum(one == name or one.startswith(f"{name}-") for one in before)
    arm: dict[str, Any] = {"name": CANARY, "models": {named.model: named.version}}
    if not weighed(policy, named.model):
        arm["surfaces"] = joining(policy, declaration)
    told = {
        "name": f"{name}-{times + 1}" if times else name,
        "hypothesis": f"{named} does no harm where it answers instead of {live or 'nobody'}.",
        "layer": LAYER,
        "share": min(2 * most / 100, 1.0),
        "days": days,
        "arms": [{"name": "live"}, arm],
        "plan": {
            "planned_units": max(int(doctors * 2 * most / 100), 2),
            "alpha": ALPHA,
            "metrics": [
                {"name": "clicks", "numerator": "clicks", "denominator": "impressions"},
                {
                    "name": "engagement",
                    "numerator": "positives",
                    "denominator": "impressions",
                    "margin": LEAST_HARM,
                },
            ],
        },
    }
    text = tomli_w.dumps(told)
    return CanaryFile(text, ExperimentFile.read(text, f"canary of {named}"))


def weighed(policy: Policy, model: str) -> list[str]:
    """Surfaces on which a policy asks a model."""
    return [
        name
        for name, surface in policy.surfaces.items()
        if model in (*surface.sources, *surface.model_weights, *surface.affinity_weights)
    ]


def joining(policy: Policy, declaration: ModelDeclaration) -> dict[str, dict[str, Any]]:
    """What of a policy's surfaces is otherwise once a model takes its declared share of relevance.

    A share of s beside weights that sum to w is a weight of w·s/(1 − s).
    """
    if not declaration.blend:
        raise ConfigurationError(
            f"policy {policy.version} asks {declaration.name} on no surface; say how much of "
            f"relevance it takes, in its model.toml: [blend] feed = 0.2"
        )
    surfaces: dict[str, dict[str, Any]] = {}
    for name, share in declaration.blend.items():
        if name not in policy.surfaces:
            raise ConfigurationError(
                f"model.toml of {declaration.name}: blend.{name}: no such surface; policy "
                f"{policy.version} has {', '.join(policy.surfaces)}"
            )
        surface = policy.surfaces[name]
        weight = sum(surface.model_weights.values()) * share / (1 - share)
        surfaces[name] = {
            "sources": [*surface.sources, declaration.name],
            "model_weights": {**surface.model_weights, declaration.name: weight or 1.0},
        }
    return surfaces
