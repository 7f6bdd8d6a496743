"""A tuned front as a version of the policy, with where it comes from."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import tomli_w

from recmesh.offline.tuning.operating_point import chosen_point
from recmesh.offline.tuning.report import FrontPoint, TuningReport
from recmesh.offline.tuning.tune import Tuned
from recmesh.orchestrator.objectives.freshness import EVERY_OTHER_TYPE
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.errors import ConfigurationError


def published(store: PolicyStore, base: Policy, tuned: Tuned, rule: str) -> str:
    """Publishes the base policy with the surface at the point that the rule chooses.

    Points that another beats in the test period, too, are left out. Returns the version; nothing
    is served by it yet.

    Raises:
        ConfigurationError: the rule cannot be met.
    """
    report = tuned.report
    front = [point for point in report.points if point.on_front]
    return store.publish(*_at(base, report, front, rule))


def _at(
    base: Policy, report: TuningReport, front: list[FrontPoint], rule: str
) -> tuple[str, dict[str, Any]]:
    values = np.array([[point.metrics[m] for m in report.metrics] for point in front])
    point = front[chosen_point(rule, values, report.metrics)]
    tables = base.model_dump(mode="json", exclude={"version"}, exclude_none=True)
    tables["name"] = f"tuned-{report.surface}"
    surface = tables["surfaces"][report.surface]
    surface["front"] = [_point(one) for one in front]
    _apply(surface, _point(point))
    card = {
        "surface": report.surface,
        "rule": rule,
        "point": point.number,
        "metrics": dict(point.metrics),
        "margins": dict(point.margins),
        "base": base.version,
        "dataset_version": report.dataset_version,
        "study": {
            "sampler": report.sampler,
            "trials": report.trials,
            "seed": report.seed,
            "validation_start": report.validation_start,
            "test_start": report.test_start,
        },
        "hypervolume": {one.name: one.hypervolume.value for one in report.fronts},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return tomli_w.dumps(tables), card


def _point(point: FrontPoint) -> dict[str, Any]:
    return {
        "metrics": {name: round(value, 6) for name, value in point.metrics.items()},
        "model_weights": point.overrides["model_weights"],
        "objective_weights": point.overrides["objective_weights"],
        "half_life_days": point.overrides["half_life_days"][EVERY_OTHER_TYPE],
        **point.overrides["slate"],
        **point.overrides.get("campaigns", {}),
    }


def _apply(surface: dict[str, Any], point: dict[str, Any]) -> None:
    surface["model_weights"] = point["model_weights"]
    surface["objective_weights"] = point["objective_weights"]
    surface["half_life_days"][EVERY_OTHER_TYPE] = point["half_life_days"]
    surface["slate"]["diversity_strength"] = point["diversity_strength"]
    surface["slate"]["calibration_weight"] = point.get("calibration_weight", 0.0)
    if "largest_price" in point:
        surface.setdefault("campaigns", {})["largest_price"] = point["largest_price"]


def rechosen(store: PolicyStore, version: str, surface: str, rule: str) -> str:
    """Publishes a version that serves another point of the same front; returns it.

    Raises:
        NotFoundError: there is no such version.
        ConfigurationError: the surface has no front, or the rule cannot be met.
    """
    policy = store.load(version)
    if surface not in policy.surfaces or not policy.surfaces[surface].front:
        tuned = [name for name, one in policy.surfaces.items() if one.front]
        raise ConfigurationError(
            f"surface {surface!r} of {version} has no front; those with one: "
            f"{', '.join(tuned) or 'none; run: recmesh tune'}"
        )
    front = policy.surfaces[surface].front
    metrics = tuple(front[0].metrics)
    values = np.array([[point.metrics[m] for m in metrics] for point in front])
    chosen = chosen_point(rule, values, metrics)
    tables = tomllib.loads(store.text(version))
    _apply(tables["surfaces"][surface], tables["surfaces"][surface]["front"][chosen])
    card = store.card(version) | {
        "rule": rule,
        "point": chosen,
        "metrics": front[chosen].metrics,
        "base": version,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return store.publish(tomli_w.dumps(tables), card)
