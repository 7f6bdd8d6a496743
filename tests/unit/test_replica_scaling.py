from __future__ import annotations

from typing import Any

import pytest

from recmesh.deployments.replica_scaling import deployment_options

ARGUMENTS = ("cf", "/home", "v1")
DEFAULT: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 2,
    "num_cpus": 0.2,
    "target_inflight": 4,
}


def build(*arguments: str, **changes: Any) -> str:
    version: str = deployment_options(arguments or ARGUMENTS, **(DEFAULT | changes))["version"]
    return version


def test_what_a_replica_needs_is_reserved_for_it_alone() -> None:
    options = deployment_options(ARGUMENTS, **DEFAULT, num_gpus=0.5, pip=["idna==2.10"])
    assert options["ray_actor_options"] == {
        "num_cpus": 0.2,
        "num_gpus": 0.5,
        "runtime_env": {"pip": ["idna==2.10"]},
    }
    # Without GPUs or requirements Ray is told of neither: an environment costs a copy.
    plain = deployment_options(ARGUMENTS, **DEFAULT)
    assert plain["ray_actor_options"] == {"num_cpus": 0.2}


@pytest.mark.parametrize(
    "change", [{"min_replicas": 2}, {"max_replicas": 9}, {"target_inflight": 1}]
)
def test_scaling_replaces_no_replica(change: dict[str, Any]) -> None:
    assert build(**change) == build()


@pytest.mark.parametrize("change", [{"num_cpus": 1.0}, {"num_gpus": 1.0}, {"pip": ["idna==2.10"]}])
def test_what_replicas_run_with_names_another_build(change: dict[str, Any]) -> None:
    assert build(**change) != build()


def test_another_version_is_another_build() -> None:
    assert build("cf", "/home", "v2") != build()


def test_labels_of_nodes_are_asked_for_only_where_they_are_said() -> None:
    said = deployment_options((), **DEFAULT, node_labels={"group": "models"})
    assert said["ray_actor_options"]["label_selector"] == {"group": "models"}
    without = deployment_options((), **DEFAULT)
    assert "label_selector" not in without["ray_actor_options"]
    assert said["version"] != without["version"]
