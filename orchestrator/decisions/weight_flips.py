"""The smallest change of one objective's weight that would put an item on a page, or off it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.replay import Replayed, replay

GRID = 24
"""Weights that are tried of every objective, besides those near its own."""
NEARBY = tuple(2.0**-power for power in range(3, 11))
HALVINGS = 12


@dataclass(frozen=True, slots=True)
class WeightFlip:
    """Weights are shares: an objective's weight by the sum of all."""

    objective: str
    weight: float
    flipped_weight: float
    """Where the item is on the page if it was not, or not if it was; nothing nearer was found."""

    @property
    def change(self) -> float:
        """How far the weight must move."""
        return abs(self.flipped_weight - self.weight)


class WeightFlips:
    """Chooses one page again and again, by other weights; what was tried serves every item.

    Each try is the whole blend and slate, so that rules, likeness and campaigns count as they do
    online. One weight moves at a time, the others keep their proportions. An outcome may flip more
    than once between two weights that were tried: the nearest flip that the tries show is told,
    not one that is proved to be the nearest.
    """

    def __init__(self, decision: Decision, replayed: Replayed) -> None:
        self._decision = decision
        self._weights = replayed.blended.weights
        self._page = frozenset(replayed.page.tolist())
        self._tried: dict[tuple[str, float], frozenset[int]] = {}

    async def of(self, position: int) -> WeightFlip | None:
        """The smallest flip for a candidate, by its position among the kept; None: none is found.

        Costs some 100 slates the first time, and a dozen for each further item.
        """
        flips = [
            flip
            for objective, weight in self._weights.items()
            if weight < 1
            for grid in (_below(weight), _above(weight))
            if (flip := await self._nearest(position, objective, weight, grid)) is not None
        ]
        return min(flips, key=lambda flip: flip.change, default=None)

    async def _nearest(
        self, position: int, objective: str, weight: float, grid: Iterable[float]
    ) -> WeightFlip | None:
        """Along weights that lead away from the objective's own."""
        before = position in self._page
        near = weight
        for tried in grid:
            if (position in await self._page_at(objective, tried)) != before:
                far = tried
                break
            near = tried
        else:
            return None
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            if (position in await self._page_at(objective, middle)) != before:
                far = middle
            else:
                near = middle
        return WeightFlip(objective, weight, far)

    async def _page_at(self, objective: str, weight: float) -> frozenset[int]:
        key = objective, weight
        if key not in self._tried:
            replayed = await replay(_with_weights(self._decision, self._moved(objective, weight)))
            self._tried[key] = frozenset(replayed.page.tolist())
        return self._tried[key]

    def _moved(self, objective: str, weight: float) -> Mapping[str, float]:
        own = self._weights[objective]
        others = (1 - weight) / (1 - own)
        moved = {name: share * others for name, share in self._weights.items()}
        return moved | {objective: weight}


def _below(weight: float) -> list[float]:
    found = {*np.linspace(0, 1, GRID + 1).tolist(), *(weight - step for step in NEARBY)}
    return sorted((tried for tried in found if 0 <= tried < weight), reverse=True)


def _above(weight: float) -> list[float]:
    found = {*np.linspace(0, 1, GRID + 1).tolist(), *(weight + step for step in NEARBY)}
    return sorted(tried for tried in found if weight < tried <= 1)


def _with_weights(decision: Decision, weights: Mapping[str, float]) -> Decision:
    request = decision.considered.request
    surface = request.surface.model_copy(update={"objective_weights": dict(weights)})
    other = replace(request, surface=surface, preferences={})
    return replace(decision, considered=replace(decision.considered, request=other))
