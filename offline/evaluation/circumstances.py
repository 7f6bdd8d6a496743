"""Measured properties of a test that decide which kind of model can do well on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from recmesh.models.interactions import SECONDS_PER_DAY
from recmesh.models.nlp.training import item_texts
from recmesh.offline.evaluation.baselines import popularity, recent_popularity
from recmesh.offline.evaluation.period import Period

HEAD = 100


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a period is like. Shares lie in [0, 1]."""

    share_of_new: float
    """Test interactions on items without an event before the test."""
    share_of_newcomers: float
    """Users without a usable history."""
    median_history: float
    """Distinct items in a known user's history."""
    median_idle_days: float
    """From a known user's last positive event to the start of the period."""
    head: int
    """Size of the heads compared below."""
    lasting_head: int
    """Of the period's most wanted items, how many were the most popular before it."""
    recent_head: int
    """Of the period's most wanted items, how many were the recently most popular."""
    recent_half_life_days: float
    words_per_item: float
    """Mean words of title and abstract."""
    share_with_abstract: float
    share_with_ties: float
    """Test users with an edge."""

    @classmethod
    def of(cls, period: Period, recent_half_life_days: float) -> Circumstances:
        """Measures a period."""
        lengths = np.diff(period.history.indptr)[period.is_known]
        known = [u for u, kept in zip(period.users, period.is_known, strict=True) if kept]
        last: dict[str, int] = {}
        ids = period.past.user_ids
        for user, time in zip(
            period.past.users.tolist(), period.past.times_unix_s.tolist(), strict=True
        ):
            last[ids[user]] = time  # ascending by time
        idle = [(period.now_unix_s - last[user]) / SECONDS_PER_DAY for user in known]
        head = min(HEAD, len(period.catalogue))

        def top(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> set[int]:
            return set(np.argsort(-values, kind="stable")[:head].tolist())

        wanted = top(np.asarray(period.wanted.sum(axis=0), np.float32).ravel())
        dataset = period.known
        texts = [len(text.split()) for text in item_texts(dataset)]
        edges = dataset.edges
        tied = set(edges["source_user_id"].to_pylist()) | set(edges["target_user_id"].to_pylist())
        abstracts = pc.not_equal(dataset.items["abstract"], "")
        return cls(
            share_of_new=period.share_of_new,
            share_of_newcomers=float(1 - period.is_known.mean()),
            median_history=float(np.median(lengths)) if len(lengths) else 0.0,
            median_idle_days=float(np.median(idle)) if idle else 0.0,
            head=head,
            lasting_head=len(wanted & top(popularity(period))),
            recent_head=len(wanted & top(recent_popularity(period, recent_half_life_days))),
            recent_half_life_days=recent_half_life_days,
            words_per_item=float(np.mean(texts)) if texts else 0.0,
            share_with_abstract=float(pc.mean(abstracts).as_py() or 0.0),
            share_with_ties=float(np.mean([user in tied for user in period.users])),
        )

    def bearing_on(self, model: str) -> str:
        """The facts that bear on a model, as sentences."""
        facts = {
            "cf": self._drift() + self._history(),
            "behavioral": self._history() + self._drift(),
            "nlp": f"an item's text has {self.words_per_item:.0f} words on average and "
            f"{self.share_with_abstract:.0%} of the items have an abstract; " + self._history(),
            "network": f"{self.share_with_ties:.0%} of the test users have a tie; "
            + self._history(),
        }
        newcomers = (
            f"{self.share_of_newcomers:.0%} of the test users have no usable history and "
            f"{self.share_of_new:.1%} of the test interactions are on items without an earlier "
            "event"
        )
        return facts.get(model, self._drift() + self._history()) + newcomers

    def _drift(self) -> str:
        return (
            f"of the {self.head} items most wanted in the test, {self.lasting_head} were among "
            f"the {self.head} most popular before it and {self.recent_head} among the "
            f"{self.head} recently popular (half-life {self.recent_half_life_days:g} days); "
        )

    def _history(self) -> str:
        return (
            f"the median known user has {self.median_history:.0f} items in the history, the last "
            f"{self.median_idle_days:.0f} days before the test; "
        )
