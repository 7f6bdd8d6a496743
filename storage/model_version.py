"""What the registry of models holds: versions, their owners, and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recmesh.storage.model_stage import Stage


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who answers for a model."""

    owner: str
    contact: str
    summary: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model."""

    model: str
    version: str
    """Of its artifact."""
    owner: str
    contact: str
    summary: str
    """What its owner said when it was registered."""
    card: dict[str, Any]
    """See :class:`~recmesh.storage.artifacts.ModelCard`."""
    stage: Stage
    registered_at: int
    """Milliseconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """Something that was done to a model."""

    seq: int
    at: int
    """Milliseconds since 1970, UTC."""
    by: str
    model: str
    version: str
    """Empty: of the model as a whole."""
    did: str
    """A word: deployed, scaled, rolled back, removed, reconciled, …"""
    from_stage: str
    """Empty: its stage did not change, or there was none yet."""
    to_stage: str
    detail: str
