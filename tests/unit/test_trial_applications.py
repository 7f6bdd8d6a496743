"""What a mesh that starts runs beside the live versions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recmesh.deployments.mesh_config import MeshConfig
from recmesh.deployments.trial_applications import trial_applications
from recmesh.models.model import TrainOptions
from recmesh.models.registry import trainer
from recmesh.orchestrator.experiments.experiment import BUCKETS, Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from tests.small_world import ingested_home, train


def test_what_running_experiments_ask_and_nothing_else(tmp_path: Path) -> None:
    home = ingested_home(tmp_path)
    live = train(home, "cf")
    trained = trainer("cf")(Dataset.open(home.dataset), TrainOptions(seed=1))
    card = replace(trained.card, seed=2)
    other = ArtifactStore(home.artifacts).publish(
        card, trained.tensors, trained.strings, live=False
    )
    store = ExperimentStore(home.experiments)
    now = datetime.now(UTC)
    for name, version in (("one", other), ("two", live), ("three", "gone"), ("four", other)):
        experiment = Experiment.model_validate(
            {
                "name": name,
                "layer": name,
                "surfaces": [name],
                "arms": [
                    {"name": "a", "share": 0.5},
                    {"name": "b", "share": 0.5, "models": {"cf": version}},
                ],
                "first_bucket": 0,
                "buckets": BUCKETS,
                "starts_at": now,
                "ends_at": now + timedelta(days=1),
            }
        )
        store.create(experiment, days=1, file="", plan={}, by="ada")
        store.start(name, 1.0, "ada", now)
    store.stop("four", "", "ada")

    def names() -> list[str]:
        config = MeshConfig.model_validate({"models": {"cf": {}}})
        return [target.name for target in trial_applications(config, home, "127.0.0.1")]

    assert names() == [f"model-cf@{other[:12]}"]
    store.stop("one", "", "ada")
    assert names() == []
