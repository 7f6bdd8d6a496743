"""What a model is to the rest of the house: plain Python over NumPy.

A model folder offers two functions, named in :mod:`recmesh.models.registry`:

``train(dataset, options) -> TrainedModel``
    learns from ingested events no later than ``options.until``;
``load(artifact) -> Model``
    makes a serving model of a published artifact.

Models keep no state about users: what they may know of a user comes with the call. They
take ``now_unix_s`` from the call, never a clock, so that answers can be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recmesh.storage.artifacts import Artifact, ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnsupportedError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Capability(Enum):
    """A call that a model supports; values as in ``recmesh.v1.Capability``."""

    RETRIEVE = 1
    SCORE = 2
    EMBED = 3


@dataclass(frozen=True, slots=True)
class User:
    """Everything a model may know of a user. Histories are oldest first."""

    user_id: str
    history_item_ids: Sequence[str] = ()
    history_event_types: Sequence[int] = ()
    """Numbers of ``recmesh.v1.EventType``, aligned with ``history_item_ids``."""
    history_times_unix_s: Sequence[int] = ()
    specialties: Sequence[str] = ()
    country: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a model is asked for."""

    user: User
    surface: str
    now_unix_s: int
    query: str = ""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Distinct items, best first, with finite raw scores that do not increase."""

    item_ids: list[str]
    scores: Float32


EMPTY = Retrieved([], np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Description:
    """What a model says of itself; see ``recmesh.v1.DescribeResponse``."""

    name: str
    version: str
    capabilities: frozenset[Capability]
    owner: str
    surfaces: tuple[str, ...] = ()
    embedding_dim: int = 0
    embedding_version: str = ""
    calibration: dict[str, list[float]] = field(default_factory=dict)


class Model:
    """Base of serving models. Calls must be thread-safe and free of side effects.

    Subclasses implement the calls their ``description`` names; the others raise
    :class:`~recmesh.storage.errors.UnsupportedError`.
    """

    description: Description

    def retrieve(self, context: Context, limit: int) -> Retrieved:
        """At most ``limit`` items that suit the user; empty when it knows none."""
        raise UnsupportedError(f"model {self.description.name} does not retrieve")

    def score(self, context: Context, item_ids: Sequence[str]) -> Float32:
        """Raw scores ``[len(item_ids)]``; NaN where the model has no opinion.

        On the same scale as :meth:`retrieve`'s scores for the same user. An item's score
        does not depend on the other items.
        """
        raise UnsupportedError(f"model {self.description.name} does not score")

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[len(texts), embedding_dim]``."""
        raise UnsupportedError(f"model {self.description.name} does not embed")

    def corrected(self, text: str) -> str:
        """A query with its spelling corrected; itself when the model cannot, or need not."""
        return text

    def embed_user(self, user: User, now_unix_s: int) -> Float32 | None:
        """Unit vector ``[embedding_dim]``; None when nothing is known of the user."""
        raise UnsupportedError(f"model {self.description.name} does not embed")


class Progress(Protocol):
    """Receives how far long work has come."""

    def __call__(self, done: float, total: float, message: str) -> None:
        """``done`` of ``total`` units; ``message`` says what the units are."""


def silent(done: float, total: float, message: str) -> None:
    """A :class:`Progress` that nobody looks at."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. Equal data, options and code give an equal artifact."""

    until: datetime | None = None
    """No event at or after this UTC moment may be used. None: all events."""
    seed: int = 0
    progress: Progress = silent
    parameters: dict[str, Any] = field(default_factory=dict)
    """Overrides of the model's own defaults, by name."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What training yields; :class:`~recmesh.storage.artifacts.ArtifactStore` keeps it."""

    card: ModelCard
    tensors: dict[str, npt.NDArray[Any]]
    strings: dict[str, list[str]]


Train = Callable[[Dataset, TrainOptions], TrainedModel]
Load = Callable[[Artifact], Model]
