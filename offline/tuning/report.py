"""What a tuning found, for people and for scripts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from recmesh.offline.evaluation.bootstrap import Interval
from recmesh.offline.evaluation.report import shown
from recmesh.offline.tuning.equal_ndcg import AtEqualNdcg


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One operating point, judged on the test period."""

    number: int
    metrics: Mapping[str, float]
    margins: Mapping[str, float]
    """Half the width of each metric's 95% interval."""
    on_front: bool
    """Whether no other point of the front beats it on the test period, too."""
    overrides: Mapping[str, Any]
    """Keys of the surface's policy."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A front's hypervolume, or the tuned front's less its."""

    name: str
    points: int
    hypervolume: Interval
    at_equal_ndcg: Mapping[str, AtEqualNdcg]
    """By further metric."""


@dataclass(frozen=True, slots=True)
class TuningReport:
    """One run of ``recmesh tune``."""

    surface: str
    metrics: tuple[str, ...]
    dataset_version: str
    policy_version: str
    sampler: str
    trials: int
    seed: int
    slots: int
    bootstrap_samples: int
    validation_start: str
    test_start: str
    validation_users: int
    test_users: int
    absent: Mapping[str, str]
    trials_per_minute: float
    seconds: float
    points: list[FrontPoint]
    fronts: list[Compared]
    differences: list[Compared]

    def as_json(self) -> str:
        """The whole report; numbers unrounded."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def summary(self) -> str:
        """How it was found and judged."""
        absent = "".join(f" Without {name}: {why}." for name, why in self.absent.items())
        return (
            f"Surface {self.surface}, {', '.join(self.metrics)} of the first {self.slots} slots. "
            f"{self.trials:,} trials by {self.sampler}, seed {self.seed}, on "
            f"{self.validation_users:,} users from {self.validation_start[:10]}; judged once on "
            f"{self.test_users:,} users from {self.test_start[:10]}. Hypervolume above 0 in every "
            f"metric, unscaled; brackets: 95% bootstrap intervals over users, "
            f"{self.bootstrap_samples:,} samples.{absent}"
        )

    def fronts_table(self) -> list[list[str]]:
        """Heading and one row a way to come by points."""
        further = [name for name in self.metrics if name != "ndcg"]
        head = ["", "points", "hypervolume", "tuned minus it"]
        head += [f"{name} at its best nDCG; tuned minus it" for name in further]
        volume = max(front.hypervolume.value for front in self.fronts)
        # Three digits that say something, also where a metric is small.
        decimals = max(3, 2 - math.floor(math.log10(volume))) if volume > 0 else 3
        gains = {one.name: shown(one.hypervolume, True, decimals) for one in self.differences}
        rows = []
        for front in self.fronts:
            row = [front.name, str(front.points), shown(front.hypervolume, decimals=decimals)]
            row.append(gains.get(front.name, ""))
            for name in further:
                at = front.at_equal_ndcg[name]
                cells = f"{at.theirs:.4f}; {shown(at.gain, True, 4)}"
                row.append(cells if front.name in gains else "")
            rows.append(row)
        return [head, *rows]

    def points_table(self) -> list[list[str]]:
        """Heading and one row a point of the front."""
        priced = any("campaigns" in point.overrides for point in self.points)
        head = ["point", *self.metrics, "diversity strength", "interests"]
        head += ["largest price", "weights"] if priced else ["weights"]
        rows = []
        for point in self.points:
            weights = point.overrides["model_weights"] | {
                name: weight
                for name, weight in point.overrides["objective_weights"].items()
                if name != "relevance"
            }
            row = [f"{point.number}{'' if point.on_front else ' (beaten)'}"]
            row += [f"{point.metrics[m]:.4f} ±{point.margins[m]:.4f}" for m in self.metrics]
            slate = point.overrides["slate"]
            row += [f"{slate['diversity_strength']:.3f}", f"{slate['calibration_weight']:.3f}"]
            if priced:
                row.append(f"{point.overrides['campaigns']['largest_price']:.2f}")
            row.append(", ".join(f"{name} {weight:.2f}" for name, weight in weights.items()))
            rows.append(row)
        return [head, *rows]

    def as_markdown(self) -> str:
        """The report as a page."""

        def table(rows: list[list[str]]) -> list[str]:
            head, *rest = [f"| {' | '.join(row)} |" for row in rows]
            return [head, "|---" * len(rows[0]) + "|", *rest, ""]

        return "\n".join(
            [
                f"# Tuning of {self.surface}",
                "",
                self.summary(),
                "",
                *table(self.fronts_table()),
                *table(self.points_table()),
            ]
        )
