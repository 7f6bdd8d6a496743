"""How Ray Serve scales and rolls applications whose replicas serve themselves.

Serve sees none of the calls (ADR 0001), so replicas report their mean calls in flight and
the policy here turns that into a number of replicas; Serve applies the bounds and delays.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from recmesh.deployments.announcer import LEAVING_S

INFLIGHT = "inflight"
"""Key of a replica's mean calls in flight in ``record_autoscaling_stats``."""

UPSCALE_DELAY_S = 3.0
DOWNSCALE_DELAY_S = 60.0
LOOK_BACK_S = 15.0
HEALTH_CHECK_PERIOD_S = 1.0
HEALTH_CHECK_TIMEOUT_S = 10.0


def replicas_for_load(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Enough replicas to bring each to the target: ⌈total in flight / target⌉.

    A replica that has not reported yet counts as carrying nothing.
    """
    reported = (context.aggregated_metrics or {}).get(INFLIGHT, {})
    target = context.config.target_ongoing_requests
    return math.ceil(sum(reported.values()) / target), {}


@cache
def _code() -> bytes:
    """Digest of the code that replicas run, edits included."""
    digest = hashlib.sha256()
    for package in ("deployments", "models", "orchestrator", "storage", "v1"):
        for file in sorted((Path(__file__).parent.parent / package).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()


SERVE_BUILDS = threading.Lock()
"""Serve changes how the whole process pickles while it makes the options of a deployment."""


def deployment_options(
    arguments: Sequence[Any],
    *,
    min_replicas: int,
    max_replicas: int,
    num_cpus: float,
    target_inflight: float,
    num_gpus: float = 0,
    pip: Sequence[str] = (),
    node_labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Options of a Serve deployment for an application of ours.

    ``arguments`` are those of the replica's constructor. While they, the code and what a replica
    needs are the same, deploying again leaves the replicas as they are, or only changes how many
    there are. ``pip`` are requirements of these replicas alone, installed over ours.
    ``node_labels`` are what a node must carry to be given one.
    """
    actor: dict[str, Any] = {"num_cpus": num_cpus}
    if num_gpus:
        actor["num_gpus"] = num_gpus
    if pip:
        actor["runtime_env"] = {"pip": list(pip)}
    if node_labels:
        actor["label_selector"] = dict(node_labels)
    running = hashlib.sha256(_code() + repr([*arguments, actor]).encode())
    with SERVE_BUILDS:
        scaling = AutoscalingConfig(
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            target_ongoing_requests=target_inflight,
            upscale_delay_s=UPSCALE_DELAY_S,
            downscale_delay_s=DOWNSCALE_DELAY_S,
            look_back_period_s=LOOK_BACK_S,
            policy=AutoscalingPolicy(policy_function=replicas_for_load),
        )
    return {
        # Without a version of our own, Serve replaces every replica whenever it is told anything.
        "version": running.hexdigest()[:16],
        "_internal": True,
        "autoscaling_config": scaling,
        "ray_actor_options": actor,
        # Without, Serve would stop old replicas before new ones answer. Half of them at once, as
        # starting takes cores from those that answer; it rounds up, so one is replaced by one.
        "max_surge_percent": 50,
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
        # Serve sees no requests, so it has none to wait for; the server drains its own.
        "graceful_shutdown_wait_loop_s": 0.1,
        "graceful_shutdown_timeout_s": LEAVING_S,
    }
