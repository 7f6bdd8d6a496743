"""What every pod must be, and what the Ray cluster must: nothing that a schema can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from k8s.validation.manifests import Fault, Manifest, PodTemplate, name_of, pod_templates

STEP = "pod rules"
LEAST_DELETION_DELAY_S = 120
"""A call of 60 s, 30 s of DNS and a minute of retired embedding versions."""
RAY_PORTS = {"serve": 8000, "serve-grpc": 9000}
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of pods, and of RayServices as a whole."""
    found = [
        Fault(STEP, template.where, said)
        for template in pod_templates(manifests)
        for said in (*_restricted(template), *_images(template))
    ]
    settings = _settings(manifests)
    for manifest in manifests:
        if manifest.get("kind") == "RayService":
            found += [Fault(STEP, name_of(manifest), said) for said in _ray(manifest, settings)]
    return found


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def _restricted(template: PodTemplate) -> Iterator[str]:
    """PodSecurity's standard "restricted": the namespace refuses anything else."""
    spec = template.spec
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is not allowed"
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a hostPath"
    if pod.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile of the pod is not RuntimeDefault"
    for container in _containers(spec):
        named, own = f"container {container['name']}", container.get("securityContext", {})
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            yield f"{named}: runAsNonRoot is not true"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{named}: allowPrivilegeEscalation is not false"
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            yield f"{named}: does not drop all capabilities"
        if own.get("privileged"):
            yield f"{named}: is privileged"


def _images(template: PodTemplate) -> Iterator[str]:
    for container in _containers(template.spec):
        image = container["image"]
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if "@" not in image and tag in ("", "latest"):
            yield f"container {container['name']}: image {image} names no version"


def _settings(manifests: Sequence[Manifest]) -> dict[str, str]:
    for manifest in manifests:
        if manifest.get("kind") == "ConfigMap" and "recmesh-settings" in name_of(manifest):
            found: dict[str, str] = manifest.get("data", {})
            return found
    return {}


def _ray(manifest: Manifest, settings: dict[str, str]) -> Iterator[str]:
    spec = manifest["spec"]
    cluster = spec["rayClusterConfig"]
    if cluster.get("rayVersion") != version("ray"):
        yield f"rayVersion {cluster.get('rayVersion')}, and the mesh runs on {version('ray')}"
    if not spec.get("excludeHeadPodFromServeSvc"):
        yield "excludeHeadPodFromServeSvc is not true: the head's loss would take calls with it"
    if cluster["headGroupSpec"].get("rayStartParams", {}).get("num-cpus") != "0":
        yield 'head: num-cpus is not "0", so replicas would be put there'
    if spec.get("upgradeStrategy", {}).get("type") == "NewClusterWithIncrementalUpgrade":
        yield "an incremental upgrade does not route gRPC"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < LEAST_DELETION_DELAY_S:
        yield f"rayClusterDeletionDelaySeconds is below {LEAST_DELETION_DELAY_S}: calls would fail"
    if "gcsFaultToleranceOptions" not in cluster:
        yield "gcsFaultToleranceOptions are missing: a head that is lost forgets everything"
    if not cluster.get("enableInTreeAutoscaling"):
        yield "enableInTreeAutoscaling is not true"
    drain_s = float(settings.get(DRAIN, "30"))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        named = f"group {group.get('groupName', 'head')}"
        pod = group["template"]["spec"]
        if pod.get("terminationGracePeriodSeconds", 30) <= drain_s:
            yield f"{named}: terminationGracePeriodSeconds is not above {DRAIN} {drain_s:.0f}"
        container = pod["containers"][0]
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
        for name, number in RAY_PORTS.items():
            if ports.get(name) != number:
                yield f"{named}: has no port {number} named {name}"
        if "preStop" in container.get("lifecycle", {}):
            yield f"{named}: a preStop would end Ray before it drains"
