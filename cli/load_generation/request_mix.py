"""Who asks for which page: surfaces by weight, doctors by activity, queries as they were typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pyarrow.compute as pc

from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError
from recmesh.v1 import recommendation_pb2

DEFAULT_MIX = "feed=60,search=20,swipe=10,network=10"
SEARCH = "search"
LABELS = {"generator": "recmesh-load"}
"""Recorded with every page, so that these can be told from pages that somebody saw."""
_BLOCK = 1024


def parse_mix(text: str) -> dict[str, float]:
    """Reads ``feed=60,search=40``: weights of surfaces, whatever their sum.

    Raises:
        ConfigurationError: it has another form, a surface twice, or no weight above 0.
    """
    parts = [part.partition("=") for part in text.split(",")]
    try:
        weights = {surface.strip(): float(weight) for surface, _, weight in parts}
        if len(weights) < len(parts) or min(weights.values()) < 0 or not sum(weights.values()) > 0:
            raise ValueError(text)
    except ValueError:
        raise ConfigurationError(
            f"--mix {text!r} is not of the form SURFACE=WEIGHT,…, each surface once and a "
            f"weight above 0; for example {DEFAULT_MIX}"
        ) from None
    return {surface: weight for surface, weight in weights.items() if weight}


def zipf_weights(number: int) -> np.ndarray:
    """Activity by rank: the second is half as active as the first, the third a third."""
    return 1.0 / np.arange(1, number + 1)


@dataclass(frozen=True)
class RequestMix:
    """What requests are drawn from."""

    surfaces: Mapping[str, float]
    """Weights."""
    users: Sequence[str]
    user_weights: np.ndarray
    queries: Sequence[str]
    """One drawn as often as it stands here."""

    def __post_init__(self) -> None:
        """Raises ConfigurationError: nobody asks, or nothing is searched for."""
        if not self.users:
            raise ConfigurationError("there is no doctor to ask for; name some with --users-file")
        if SEARCH in self.surfaces and not self.queries:
            raise ConfigurationError(
                "the data set holds no queries to search for; give some with --queries-file, "
                "or leave search out of --mix"
            )

    @classmethod
    def of(
        cls,
        surfaces: Mapping[str, float],
        dataset: Dataset | None,
        users: Sequence[str] = (),
        queries: Sequence[str] = (),
    ) -> RequestMix:
        """Takes what is not given from a data set.

        Users of a data set come as often as they have events there, and once more; given ones by
        Zipf's law in the order given. Without queries in the data set's events its titles are
        searched for.

        Raises:
            ConfigurationError: as above.
        """
        weights = zipf_weights(len(users))
        if not users and dataset is not None:
            users, weights = _active_users(dataset)
        if not queries and SEARCH in surfaces and dataset is not None:
            queries = _typed_queries(dataset)
        return cls(surfaces, users, weights, queries)

    def requests(self, rng: np.random.Generator) -> Iterator[recommendation_pb2.RecommendRequest]:
        """Requests without end."""
        names = list(self.surfaces)
        by_surface = np.cumsum(list(self.surfaces.values()))
        by_user = np.cumsum(self.user_weights)
        for _ in repeat(None):
            surfaces = np.searchsorted(by_surface, rng.random(_BLOCK) * by_surface[-1], "right")
            users = np.searchsorted(by_user, rng.random(_BLOCK) * by_user[-1], "right")
            queries = rng.integers(max(len(self.queries), 1), size=_BLOCK)
            for surface, user, query in zip(
                surfaces.tolist(), users.tolist(), queries.tolist(), strict=True
            ):
                yield recommendation_pb2.RecommendRequest(
                    surface=names[surface],
                    user_id=self.users[user],
                    query=self.queries[query] if names[surface] == SEARCH else "",
                    labels=LABELS,
                )


def _active_users(dataset: Dataset) -> tuple[Sequence[str], np.ndarray]:
    counted = {
        row["values"]: row["counts"]
        for row in pc.value_counts(dataset.events["user_id"]).to_pylist()
    }
    users = dataset.users["user_id"].to_pylist() or list(counted)
    return users, np.array([1.0 + counted.get(user, 0) for user in users])


def _typed_queries(dataset: Dataset) -> Sequence[str]:
    typed = dataset.events["query"]
    found: Sequence[str] = typed.filter(pc.not_equal(typed, "")).to_pylist()
    return found or dataset.items["title"].to_pylist()
