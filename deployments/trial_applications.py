"""Versions beside live ones that running experiments ask: a mesh that starts runs them again."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from ray import serve

from recmesh.deployments.mesh_config import MeshConfig, declared_table
from recmesh.deployments.model_app import model_application
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home

log = structlog.get_logger(__name__)


def trial_applications(config: MeshConfig, home: Home, host: str) -> list[serve.RunTarget]:
    """What Serve is to run for them, on ``host``; one that cannot run is left out, and said."""
    store = ArtifactStore(home.artifacts)
    now = datetime.now(UTC)
    asked = {
        (model, version)
        for experiment in ExperimentStore(home.experiments).read().book.experiments
        if experiment.state(now) in ("waiting", "running")
        for arm in experiment.arms
        for model, version in arm.models.items()
        if model not in config.models
        or not store.has_live(model)
        or store.live_version(model) != version
    }
    found = []
    for model, version in sorted(asked):
        table = config.models.get(model) or declared_table(model)
        try:
            target = model_application(
                model,
                table,
                home,
                host,
                version=version,
                beside=True,
                telemetry_table=config.telemetry,
            )
            found.append(target)
        except RecMeshError as error:
            log.warning("trial left out", model=model, version=version, reason=str(error))
    return found
