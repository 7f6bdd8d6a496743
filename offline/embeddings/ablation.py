"""Ways to make one kind of vector, compared on the same queries or users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from recmesh.offline.evaluation.bootstrap import Float64, Interval, UserBootstrap
from recmesh.offline.evaluation.report import shown

BOOTSTRAP_SAMPLES, SEED = 1000, 0


@dataclass(frozen=True, slots=True)
class Variant:
    """One way: its figures, and what they gain over the first way's, paired."""

    name: str
    figures: Mapping[str, Interval]
    gains: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Ablation:
    """All ways; the first is what is served."""

    summary: str
    variants: list[Variant]

    @classmethod
    def of(cls, summary: str, values: Mapping[str, Mapping[str, Float64]]) -> Ablation:
        """From every way's figures by query or user ``[n]``; the first is compared with."""
        served = next(iter(values.values()))
        n = len(next(iter(served.values())))
        resampled = UserBootstrap(n, BOOTSTRAP_SAMPLES, SEED)
        variants = [
            Variant(
                name,
                {metric: resampled.mean(found) for metric, found in figures.items()},
                {
                    metric: resampled.difference(found, served[metric])
                    for metric, found in figures.items()
                },
            )
            for name, figures in values.items()
        ]
        brackets = f"Brackets: 95% bootstrap intervals, {BOOTSTRAP_SAMPLES:,} samples, seed {SEED}."
        return cls(f"{summary} {brackets}", variants)

    def as_json(self) -> str:
        """All figures, unrounded."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def table(self) -> list[list[str]]:
        """Heading and a row a way: each figure, and its paired gain over the first."""
        metrics = list(self.variants[0].figures)
        rows = [
            [v.name, *(shown(v.figures[m]) for m in metrics)]
            + [shown(v.gains[m], True) if v is not self.variants[0] else "" for m in metrics]
            for v in self.variants
        ]
        return [["", *metrics, *(f"{metric}, gain" for metric in metrics)], *rows]

    def as_markdown(self) -> str:
        """The comparison as a page."""
        head, *rows = self.table()
        lines = [self.summary, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])
