"""What a retraining did and why, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from recmesh.offline.retraining.comparison import Comparison, Protocol
from recmesh.offline.retraining.gate import Check
from recmesh.offline.retraining.shadow import Shadow


class Outcome(StrEnum):
    """What became of a model."""

    PROMOTED = "promoted"
    PASSED = "passed"
    """It would have been promoted; nothing is, in a dry run."""
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    SKIPPED = "skipped"
    """The data holds nothing for it, and nothing of it is live."""
    FAILED = "failed"


@dataclass(slots=True)
class ModelReport:
    """One model."""

    name: str
    outcome: Outcome
    live_before: str = ""
    """Empty: nothing was live."""
    candidate: str = ""
    comparison: Comparison | None = None
    checks: list[Check] = field(default_factory=list)
    message: str = ""
    """Why it failed or was left out, or what is to be done."""
    back: str = ""
    """Command that returns to the version before."""

    @property
    def refusals(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if not check.passed]

    @property
    def verdict(self) -> str:
        """One line."""
        if self.outcome is Outcome.REFUSED:
            return "; ".join(str(check) for check in self.refusals)
        return self.message


@dataclass(slots=True)
class Report:
    """One run."""

    started: str
    dataset_version: str
    rows: dict[str, int]
    """Rows of each table that were used."""
    newest_data: str
    until: str
    seed: int
    dry_run: bool
    resumed: bool = False
    models: list[ModelReport] = field(default_factory=list)
    embedding: dict[str, Any] = field(default_factory=dict)
    """Version, collection, count and recall of what was built; empty: nothing was."""
    shadow: Shadow | None = None
    shadow_checks: list[Check] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""
    mesh: str = ""
    """What the running mesh serves of it."""

    def of(self, *outcomes: Outcome) -> list[ModelReport]:
        """Models that came to one of these."""
        return [model for model in self.models if model.outcome in outcomes]

    @property
    def repeat(self) -> str:
        """The command that does the same on the same data."""
        names = " ".join(model.name for model in self.models)
        until = f" --until {self.until}" if self.until else ""
        return f"recmesh retrain {names} --seed {self.seed}{until}"

    def as_json(self) -> str:
        """Everything."""
        return json.dumps(asdict(self), indent=2)

    def as_markdown(self) -> str:
        """A page."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        lines = [
            f"# Retraining of {self.started}" + (" (dry run)" if self.dry_run else ""),
            "",
            *_table(
                ["model", "outcome", "live before", "candidate", "nDCG@10", "live", "difference"],
                [_row(model) for model in self.models],
            ),
            "",
            *(f"- **{m.name}** {m.outcome}: {m.verdict}" for m in self.models if m.verdict),
            *([f"- {self.mesh}"] if self.mesh else []),
            "",
            "## Data",
            "",
            f"Version `{self.dataset_version}`: {counts}; newest {self.newest_data or 'unknown'}. "
            f"The same data gives the same candidates: `{self.repeat}`.",
            "",
        ]
        for model in self.models:
            if model.comparison or model.checks:
                lines += _model_section(model)
        lines += self._embedding_section() + self._shadow_section()
        took = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        if took:
            lines += ["## Time", "", f"{took}.", ""]
        if back := [model.back for model in self.models if model.back]:
            lines += ["## Back to the versions before", "", "```", *back, "```", ""]
        return "\n".join(lines)

    def _embedding_section(self) -> list[str]:
        if not self.embedding:
            return []
        rows = [[key.replace("_", " "), f"{value}"] for key, value in self.embedding.items()]
        return ["## Embedding version", "", *_table(["", ""], rows), ""]

    def _shadow_section(self) -> list[str]:
        shadow = self.shadow
        if shadow is None:
            return []
        by_surface = ", ".join(f"{n} {v:.2f}" for n, v in shadow.overlap_by_surface.items())
        return [
            "## Shadow",
            "",
            f"{shadow.requests} recent requests, answered with the candidates and with the live "
            f"versions: overlap@10 {shadow.overlap_at_10:.2f}"
            + (f" ({by_surface})" if by_surface else "")
            + f", latency ratio {shadow.latency_ratio:.2f}.",
            "",
            *_checks(self.shadow_checks),
            *(f"- {reason}: {count}" for reason, count in shadow.reasons.items()),
            "",
        ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(headings) + " |",
        "|" + "---|" * len(headings),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _row(model: ModelReport) -> list[str]:
    comparison = model.comparison
    figures = ["", "", ""]
    if comparison is not None:
        figures[0] = f"{comparison.candidate.value:.4f}"
        if comparison.live is not None and comparison.difference is not None:
            d = comparison.difference
            figures[1] = f"{comparison.live.value:.4f}"
            figures[2] = f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
    versions = [f"`{v}`" if v else "–" for v in (model.live_before, model.candidate)]
    return [model.name, f"**{model.outcome}**", *versions, *figures]


def _checks(checks: Sequence[Check]) -> list[str]:
    return [f"- {'✓' if check.passed else '✗ **refused**'} {check}" for check in checks]


def _model_section(model: ModelReport) -> list[str]:
    lines = [f"## {model.name}", ""]
    comparison = model.comparison
    if comparison is not None:
        against = {
            Protocol.FIRST: "Nothing is live to compare with.",
            Protocol.IMPOSSIBLE: f"No comparison with the live version: {comparison.why}.",
        }.get(comparison.protocol, f"Live version: {comparison.protocol}.")
        lines += [
            f"Judged on {comparison.users} users from {comparison.start} to {comparison.end}, "
            f"trained before. {against}",
            "",
        ]
    return [*lines, *_checks(model.checks), ""]
