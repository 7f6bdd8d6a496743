"""What an evaluation of search found, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.report import shown


@dataclass(frozen=True, slots=True)
class System:
    """One way to search."""

    name: str
    ndcg_at_10: Interval
    recall_at_100: Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system minus a baseline, query by query: paired intervals."""

    system: str
    baseline: str
    ndcg_at_10: Interval
    recall_at_100: Interval


@dataclass(frozen=True, slots=True)
class SearchReport:
    """One run of ``recmesh evaluate search``."""

    data: str
    split: str
    encoder: str
    items: int
    queries: int
    earlier_queries: int
    """Length of the query log that search could learn from."""
    seed: int
    bootstrap_samples: int
    systems: list[System]
    comparisons: list[Comparison]
    milliseconds_per_query: float
    """Median of the last system, in memory, without embedding the query."""
    seconds: float

    def as_json(self) -> str:
        """The whole report; numbers unrounded."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def as_markdown(self) -> str:
        """The report as a page."""
        head, *rows = self.table()
        lines = [f"# Search on {self.data}, {self.split}", "", self.summary(), ""]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([*lines, "", *self.compared(), ""])

    def table(self) -> list[list[str]]:
        """Heading and one row a system."""
        rows = [[s.name, shown(s.ndcg_at_10), shown(s.recall_at_100)] for s in self.systems]
        return [["", "nDCG@10", "recall@100"], *rows]

    def summary(self) -> str:
        """How it was measured."""
        log = (
            f"{self.earlier_queries:,} earlier queries"
            if self.earlier_queries
            else "no earlier queries, so search goes without a log"
        )
        return (
            f"{self.queries:,} judged queries of the split {self.split}, {self.items:,} items, "
            f"{log}; encoder {self.encoder}. Brackets: 95% bootstrap intervals over queries, "
            f"{self.bootstrap_samples:,} samples, seed {self.seed}. "
            f"{self.milliseconds_per_query:.1f} ms a query without embedding it."
        )

    def compared(self) -> list[str]:
        """The paired comparisons, a sentence each."""
        return [
            f"{c.system.capitalize()} minus {c.baseline}, paired: nDCG@10 "
            f"{shown(c.ndcg_at_10, True)}, recall@100 {shown(c.recall_at_100, True)}."
            for c in self.comparisons
        ]
