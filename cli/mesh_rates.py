"""What a mesh does a second, from two readings of its metrics."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from recmesh.deployments.metrics_reader import Reading, quantile_of

PAGES = ("Recommend", "SwipeCard")
"""Methods that answer with a page."""
CALLERS_FAULTS = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED")
"""Codes that say nothing against the mesh."""


@dataclass(frozen=True, slots=True)
class SurfaceRates:
    """Pages of one surface."""

    surface: str
    """Empty: of none that the policy has."""
    per_s: float
    p50_ms: float
    """NaN where there were no pages; so is the next."""
    p99_ms: float
    error_share: float
    degraded_share: float


@dataclass(frozen=True, slots=True)
class SourceRates:
    """Calls of one model, of the vector index or of the ledger."""

    source: str
    per_s: float
    p50_ms: float
    p99_ms: float
    failed_share: float
    """Of the calls wanted, those without an answer."""
    in_flight: float
    replicas: int
    """That orchestrators know; 0: it has none of its own."""
    left_alone: int
    """Of these, those that an orchestrator does not ask now."""


@dataclass(frozen=True, slots=True)
class MeshRates:
    """The whole mesh over a stretch of time."""

    over_s: float
    surfaces: list[SurfaceRates]
    sources: list[SourceRates]
    shed_per_s: float
    decisions_lost: float
    """Since the start."""
    embedding: list[str]
    """Versions that pages are answered with; more than one while it is switched."""

    def as_json(self) -> dict[str, Any]:
        """For scripts; what is not known is null."""
        known: dict[str, Any] = _null(asdict(self))
        return known


def _null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_null(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _surfaces(grown: Reading, over_s: float) -> list[SurfaceRates]:
    codes: dict[str, dict[str, float]] = {}
    for (method, surface, code), count in grown.sum_by(
        "recmesh_requests_total", "method", "surface", "code"
    ).items():
        if method in PAGES:
            of = codes.setdefault(surface, {})
            of[code] = of.get(code, 0.0) + count
    degraded = grown.sum_by("recmesh_degraded_pages_total", "surface")
    found = []
    for surface, counts in sorted(codes.items()):
        asked = sum(counts.values())
        errors = sum(count for code, count in counts.items() if code not in CALLERS_FAULTS)
        name, method = "recmesh_request_duration_seconds", "Recommend"
        if not any(grown.sum_by(f"{name}_count", method=method, surface=surface).values()):
            method = "SwipeCard"
        found.append(
            SurfaceRates(
                surface,
                asked / over_s,
                1e3 * quantile_of(grown, name, 0.5, method=method, surface=surface),
                1e3 * quantile_of(grown, name, 0.99, method=method, surface=surface),
                _share(errors, asked),
                _share(degraded.get((surface,), 0.0), counts.get("OK", 0.0)),
            )
        )
    return found


def _sources(now: Reading, grown: Reading, over_s: float) -> list[SourceRates]:
    states: dict[str, dict[str, float]] = {}
    for (source, state), count in grown.sum_by(
        "recmesh_source_calls_total", "source", "state"
    ).items():
        states.setdefault(source, {})[state] = count
    in_flight = now.sum_by("recmesh_model_calls_in_flight", "model")
    known = _most(now, "asked"), _most(now, "left_alone")
    found = []
    for source in sorted({*states, *known[0]}):
        counts = states.get(source, {})
        wanted = sum(counts.values())
        name = "recmesh_source_duration_seconds"
        asked, alone = (int(of.get(source, 0)) for of in known)
        found.append(
            SourceRates(
                source,
                wanted / over_s,
                1e3 * quantile_of(grown, name, 0.5, source=source),
                1e3 * quantile_of(grown, name, 0.99, source=source),
                _share(wanted - counts.get("ok", 0.0), wanted),
                in_flight.get((source,), 0.0),
                asked + alone,
                alone,
            )
        )
    return found


def _most(now: Reading, state: str) -> dict[str, float]:
    """Of each model, what the orchestrator says that knows most: all know the same replicas."""
    found: dict[str, float] = {}
    for (model, _), count in now.sum_by(
        "recmesh_model_replicas", "model", "replica", state=state
    ).items():
        found[model] = max(count, found.get(model, 0.0))
    return found


def mesh_rates(before: Reading, now: Reading) -> MeshRates:
    """What happened between two readings."""
    over_s = max(now.at_s - before.at_s, 1e-9)
    grown = now.since(before)
    embedding = now.sum_by("recmesh_embedding_version_info", "version")
    return MeshRates(
        over_s,
        _surfaces(grown, over_s),
        _sources(now, grown, over_s),
        sum(grown.sum_by("recmesh_shed_requests_total").values()) / over_s,
        sum(now.sum_by("recmesh_decision_records_lost_total").values()),
        sorted(version for (version,), count in embedding.items() if count > 0),
    )
