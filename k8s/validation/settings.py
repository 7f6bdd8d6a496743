"""What the mesh itself is told: its configuration, its variables, the commands of its jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from typer.testing import CliRunner

from k8s.generate import SETTINGS, mesh_config
from k8s.validation.manifests import Fault, Manifest, config_map, name_of, pod_templates
from recmesh.cli.main import app
from recmesh.deployments import RAY_ENVIRONMENT
from recmesh.storage.errors import ConfigurationError

STEP = "settings"
BY_OPERATOR = {"RAY_AUTH_MODE"}
"""Variables that KubeRay sets."""


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of ConfigMaps that the mesh reads, and of jobs' commands."""
    found: list[Fault] = []
    settings = config_map(manifests, SETTINGS)
    for manifest in manifests:
        if manifest.get("kind") != "ConfigMap":
            continue
        where, data = name_of(manifest), manifest.get("data") or {}
        said: Iterator[str] = iter(())
        if SETTINGS in where:
            said = _variables(data)
        elif "mesh.toml" in data:
            said = _mesh(data["mesh.toml"], settings, manifests)
        found += [Fault(STEP, where, what) for what in said]
    for pod in pod_templates(manifests):
        for container in pod.spec["containers"]:
            words = [*container.get("command", []), *container.get("args", [])]
            found += [Fault(STEP, pod.where, what) for what in _command(words)]
    return found


def _variables(data: dict[str, str]) -> Iterator[str]:
    for variable, value in RAY_ENVIRONMENT.items():
        if variable not in BY_OPERATOR and data.get(variable) != value:
            yield f"{variable} is {data.get(variable)!r}; the mesh is made for {value!r}"
    if not data.get("RECMESH_HOME", "").startswith("/"):
        yield "RECMESH_HOME is no absolute path"


def _mesh(text: str, settings: dict[str, str], manifests: Sequence[Manifest]) -> Iterator[str]:
    try:
        config = mesh_config(text, settings)
    except ConfigurationError as error:
        yield str(error)
        return
    groups = [
        group.get("labels", {})
        for manifest in manifests
        if manifest.get("kind") == "RayService"
        for group in manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    ]
    wanted = {f"models.{name}": model.node_labels for name, model in config.models.items()}
    wanted |= {
        "orchestrator": config.orchestrator.node_labels,
        "catalog": config.catalog.node_labels,
    }
    for name, labels in wanted.items():
        if not any(labels.items() <= carried.items() for carried in groups):
            yield f"{name}: no worker group carries {labels}"
    if config.ray.address != "auto":
        yield f'ray.address is {config.ray.address!r}, not "auto"'


def _command(words: Sequence[str]) -> Iterator[str]:
    """A recmesh command must be one; options are parsed before --help ends it."""
    if "recmesh" not in words:
        return
    command = list(words[list(words).index("recmesh") + 1 :])
    done = CliRunner().invoke(app, [*command, "--help"])
    if done.exit_code:
        yield f"recmesh {' '.join(command)}: {' '.join(done.output.split())[-200:]}"
