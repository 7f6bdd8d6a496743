"""How far a version of a model has come, and where it may go from there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from recmesh.storage.errors import ConfigurationError


class Stage(StrEnum):
    """What a version of a model is used for."""

    CANDIDATE = "candidate"
    """Published; nobody asks it."""
    SHADOW = "shadow"
    """Asked beside the live one; no page is made with it."""
    CANARY = "canary"
    """Makes a share of the pages."""
    LIVE = "live"
    """Makes the pages."""
    RETIRED = "retired"
    """Was live, or was given up; may come back."""


ALONE = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)
"""Stages in which a model has one version at most."""

ALLOWED: Mapping[Stage, frozenset[Stage]] = MappingProxyType(
    {
        Stage.CANDIDATE: frozenset({Stage.SHADOW, Stage.CANARY, Stage.LIVE, Stage.RETIRED}),
        Stage.SHADOW: frozenset({Stage.CANDIDATE, Stage.CANARY, Stage.LIVE, Stage.RETIRED}),
        Stage.CANARY: frozenset({Stage.CANDIDATE, Stage.SHADOW, Stage.LIVE, Stage.RETIRED}),
        # It is retired by the version that goes live instead, and by nothing else: a model that
        # serves has a live version.
        Stage.LIVE: frozenset(),
        Stage.RETIRED: frozenset({Stage.SHADOW, Stage.CANARY, Stage.LIVE}),
    }
)
"""From each stage, those that a version may be moved to."""


def check_allowed(what: str, now: Stage, to: Stage) -> None:
    """Refuses a transition that :data:`ALLOWED` lacks.

    Raises:
        ConfigurationError: names the rule.
    """
    if to in ALLOWED[now]:
        return
    if now is Stage.LIVE:
        rule = "a live version is retired when another one goes live, and not otherwise"
    else:
        rule = f"from {now} a version goes to {', '.join(sorted(ALLOWED[now]))}"
    raise ConfigurationError(f"{what} is {now} and cannot become {to}: {rule}")
