"""Recorded pages and what came of them, as a log that another policy is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from recmesh.offline.off_policy.logged_slates import LoggedSlates, SlateProbabilities
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.replay import blended_columns, under
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.slate.candidates import Int32, SlateCandidates
from recmesh.orchestrator.slate.propensities import propensities, slot_propensities
from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]

Rewards = Mapping[tuple[str, str], float]
"""By request and item; what is missing earned nothing."""


@dataclass(slots=True)
class LeftOut:
    """Pages that tell nothing, and why."""

    later: int = 0
    """Of a request whose first page tells all that its slates can."""
    interleaved: int = 0
    """Two arms picked their slots in turn."""
    short: int = 0
    """Fewer slots than are judged."""


@dataclass(slots=True)
class DecisionSlates:
    """Collects pages, then makes a log of them."""

    policy: Policy
    """The one that is judged."""
    rewards: Rewards
    slots: int
    """Of every page that are judged, from the first."""
    slates: int = 16
    """Drawn of each policy for a page, to know how likely an item was in its slot."""
    seed: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    _rows: list[tuple[Float64, ...]] = field(default_factory=list)
    _users: list[str] = field(default_factory=list)

    def add(self, decision: Decision) -> None:
        """Judges one page. Takes some ten milliseconds of a core.

        Raises:
            InvalidRequestError: the policy does not have the page's surface.
        """
        request = decision.considered.request
        if request.drafted_for:
            self.left_out.interleaved += 1
        elif request.offset:
            self.left_out.later += 1
        elif len(decision.slate.chosen) < self.slots:
            self.left_out.short += 1
        else:
            self._judge(decision)

    def _judge(self, decision: Decision) -> None:
        considered = decision.considered
        request = considered.request
        chosen = decision.slate.chosen[: self.slots]
        rows = considered.candidates.rows[considered.filtered.kept]
        item_ids = [request.catalog.item_ids[row] for row in rows[chosen].tolist()]
        reward = [self.rewards.get((request.asked_as, item_id), 0.0) for item_id in item_ids]
        page = len(self._rows)
        draws = np.random.default_rng([self.seed, page]).random((self.slates, self.slots))
        logged = decision.slate.propensity[: self.slots]
        own, other = _Filled.of(decision), _Filled.of(under(decision, self.policy))
        self._rows.append(
            (
                np.array(reward),
                logged,
                # What was drawn is one of the slates that could be: none is impossible.
                _with_one_more(own.in_slot(chosen, draws), logged, self.slates),
                other.given_above(chosen),
                other.in_slot(chosen, draws),
            )
        )
        self._users.append(request.message.user_id)

    def __len__(self) -> int:
        return len(self._rows)

    def log(self) -> LoggedSlates:
        """All pages that were judged; a doctor's depend on each other.

        Raises:
            DataError: there are none.
        """
        if not self._rows:
            raise DataError(
                f"no recorded page has {self.slots} slots or more and was shown as it is"
            )
        reward, logged, logged_in_slot, new, new_in_slot = (
            np.stack(column) for column in zip(*self._rows, strict=True)
        )
        _, unit = np.unique(self._users, return_inverse=True)
        return LoggedSlates(
            reward=reward,
            logging=SlateProbabilities(logged, logged_in_slot),
            new=SlateProbabilities(new, new_in_slot),
            unit=unit.astype(np.int64),
        )


def usual_slots(decisions: Iterable[Decision]) -> int:
    """The most frequent number of slots of first pages; 0: there are none."""
    counts = Counter(
        len(one.slate.chosen) for one in decisions if not one.considered.request.offset
    )
    return counts.most_common(1)[0][0] if counts else 0


def _with_one_more(mean: Float64, one: Float64, count: int) -> Float64:
    return (mean * count + one) / (count + 1)


@dataclass(frozen=True, slots=True)
class _Filled:
    """A page's candidates under one policy, without those whose campaigns were refused."""

    decision: Decision
    columns: SlateCandidates

    @classmethod
    def of(cls, decision: Decision) -> _Filled:
        rows, _, columns = blended_columns(decision.considered)
        refused = decision.slate.refused
        if len(refused):
            blocked = np.zeros(len(rows), bool)
            blocked[refused] = True
            if columns.blocked is not None:
                blocked |= columns.blocked
            columns = replace(columns, blocked=blocked)
        return cls(decision, columns)

    def given_above(self, chosen: Int32) -> Float64:
        return propensities(self.columns, self.decision.considered.request.surface.slate, chosen)

    def in_slot(self, chosen: Int32, draws: Float64) -> Float64:
        rules = self.decision.considered.request.surface.slate
        return slot_propensities(self.columns, rules, chosen, draws)
