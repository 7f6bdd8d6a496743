"""Reads what a mesh exports for Prometheus, where Prometheus would: from every node's agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from recmesh.storage.errors import UnavailableError

ANSWER_S = 3.0
OURS = "recmesh_"
RAY = "ray_"
"""Ray's agent puts it before every name."""

Labels = frozenset[tuple[str, str]]
DROPPED = ("WorkerId", "Component", "SessionName", "Version", "JobId", "Pid", "NodeId")


@dataclass(frozen=True, slots=True)
class Reading:
    """All series at one moment, by name and labels."""

    at_s: float
    """Monotonic clock."""
    values: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def sum_by(self, name: str, *by: str, **where: str) -> dict[tuple[str, ...], float]:
        """Sums of the series whose labels are as said, by the values of labels."""
        found: dict[tuple[str, ...], float] = {}
        for labels, value in self.values.get(name, {}).items():
            known = dict(labels)
            if all(known.get(label) == wanted for label, wanted in where.items()):
                key = tuple(known.get(label, "") for label in by)
                found[key] = found.get(key, 0.0) + value
        return found

    def since(self, before: Reading) -> Reading:
        """How much each series has grown; one that began anew has grown from nothing."""
        grown: dict[str, dict[Labels, float]] = {}
        for name, series in self.values.items():
            earlier = before.values.get(name, {})
            grown[name] = {
                labels: value - (earlier[labels] if 0 <= earlier.get(labels, -1.0) <= value else 0)
                for labels, value in series.items()
            }
        return Reading(self.at_s, grown)


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    """The mesh's series of an exposition, under their names without Ray's prefix."""
    # Ray's own are ten times as many, and the parser is slow.
    ours = [line for line in text.splitlines() if line.startswith((RAY + OURS, OURS))]
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families("\n".join(ours) + "\n"):
        for sample in family.samples:
            labels = frozenset(
                (key, value)
                for key, value in sample.labels.items()
                if key not in DROPPED and not key.startswith("otel_scope")
            )
            series = found.setdefault(sample.name.removeprefix(RAY), {})
            series[labels] = series.get(labels, 0.0) + sample.value
    return found


def quantile(bounds: Sequence[float], below: Sequence[float], share: float) -> float:
    """As Prometheus' ``histogram_quantile``: linear within a bucket; NaN without observations.

    Args:
        bounds: of the buckets, the last one infinite.
        below: observations at most each bound.
        share: in [0, 1].
    """
    if not below or below[-1] <= 0:
        return float("nan")
    rank = share * below[-1]
    at = next(i for i, count in enumerate(below) if count >= rank)
    if bounds[at] == float("inf"):
        return bounds[at - 1] if at else float("nan")
    lower = bounds[at - 1] if at else 0.0
    before = below[at - 1] if at else 0.0
    inside = below[at] - before
    return lower + (bounds[at] - lower) * ((rank - before) / inside if inside else 1.0)


def quantile_of(reading: Reading, name: str, share: float, **where: str) -> float:
    """A quantile of a histogram's observations whose labels are as said; NaN without any."""
    buckets = reading.sum_by(f"{name}_bucket", "le", **where)
    ordered = sorted((float(le), count) for (le,), count in buckets.items() if le)
    return quantile([le for le, _ in ordered], [count for _, count in ordered], share)


def _fetch(url: str) -> str:
    try:
        with urlopen(url, timeout=ANSWER_S) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except (URLError, OSError) as error:
        raise UnavailableError(f"{url} does not answer: {error}") from error


async def read_metrics(urls: Iterable[str]) -> Reading:
    """What all of them export now; what some do not answer is left out.

    Raises:
        UnavailableError: none answers.
    """
    answers = await asyncio.gather(
        *(asyncio.to_thread(_fetch, url) for url in urls), return_exceptions=True
    )
    texts = [answer for answer in answers if isinstance(answer, str)]
    if not texts:
        reason = next((str(a) for a in answers if isinstance(a, UnavailableError)), "")
        raise UnavailableError(reason or "there is nobody to ask for metrics")
    values: dict[str, dict[Labels, float]] = {}
    for text in texts:
        for name, series in parsed(text).items():
            known = values.setdefault(name, {})
            for labels, value in series.items():
                known[labels] = known.get(labels, 0.0) + value
    return Reading(time.monotonic(), values)
