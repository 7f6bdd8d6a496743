"""What operators refuse though no schema says it: found here, not in a cluster's events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from k8s.validation.manifests import Fault, Manifest, name_of

STEP = "operator rules"
UPGRADES = ("None", "NewCluster", "NewClusterWithIncrementalUpgrade")
TOKENS_FROM = (2, 52)
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 47
"""KubeRay appends to it."""


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of custom resources."""
    found = []
    for manifest in manifests:
        rules = RULES.get(manifest.get("kind", ""))
        if rules is not None:
            found += [Fault(STEP, name_of(manifest), said) for said in rules(manifest)]
    return found


def _ray_service(manifest: Manifest) -> Iterator[str]:
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    if len(name) > LONGEST_NAME or not DNS_1035.fullmatch(name):
        yield f"name {name!r} is not a DNS label of at most {LONGEST_NAME} characters"
    upgrade = spec.get("upgradeStrategy", {}).get("type", "NewCluster")
    if upgrade not in UPGRADES:
        yield f"upgradeStrategy.type {upgrade!r}; KubeRay knows {', '.join(UPGRADES)}"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds is below 0"
    cluster = spec["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield "headService has a name, and a RayService's must not"
    yield from _ray_groups(cluster)
    yield from _ray_token(cluster)
    yield from _ray_redis(cluster, manifest["metadata"].get("annotations", {}))


def _ray_groups(cluster: dict[str, Any]) -> Iterator[str]:
    groups = cluster.get("workerGroupSpecs", [])
    names = [group["groupName"] for group in groups]
    if len(set(names)) < len(names):
        yield f"two worker groups have the same name: {', '.join(names)}"
    v2 = cluster.get("autoscalerOptions", {}).get("version") == "v2"
    for group in (cluster["headGroupSpec"], *groups):
        named = f"group {group.get('groupName', 'head')}"
        least, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31)
        if least > most:
            yield f"{named}: minReplicas {least} is above maxReplicas {most}"
        start = group.get("rayStartParams", {})
        if "labels" in start:
            yield f"{named}: rayStartParams.labels is refused; say labels of the group"
        own = {"num-cpus", "num-gpus", "memory", "resources"} & set(start)
        if own and group.get("resources"):
            said = ", ".join(sorted(own))
            yield f"{named}: resources and rayStartParams {said} exclude each other"
        pod = group["template"]["spec"]
        if not pod.get("containers"):
            yield f"{named}: has no container"
        if v2 and pod.get("restartPolicy", "Never") != "Never":
            yield f"{named}: restartPolicy must be Never with autoscaler v2"


def _ray_token(cluster: dict[str, Any]) -> Iterator[str]:
    if cluster.get("authOptions", {}).get("mode") != "token":
        return
    said = cluster.get("rayVersion", "")
    numbers = re.match(r"(\d+)\.(\d+)", said)
    if numbers is None:
        yield f"authOptions.mode token needs rayVersion, which is {said!r}"
    elif (int(numbers[1]), int(numbers[2])) < TOKENS_FROM:
        yield f"authOptions.mode token needs Ray 2.52 or newer; rayVersion is {said}"


def _ray_redis(cluster: dict[str, Any], annotations: dict[str, str]) -> Iterator[str]:
    if "gcsFaultToleranceOptions" not in cluster:
        return
    if annotations.get("ray.io/ft-enabled"):
        yield "gcsFaultToleranceOptions and the annotation ray.io/ft-enabled exclude each other"
    container = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    for variable in container.get("env", []):
        if variable["name"] in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"):
            yield f"gcsFaultToleranceOptions says {variable['name']}; the head's env must not"


def _milvus(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    stream = spec.get("dependencies", {}).get("msgStreamType", "")
    if spec.get("mode") == "cluster" and stream == "rocksmq":
        yield "rocksmq serves a standalone Milvus only; say woodpecker, pulsar or kafka"


def _scaled_object(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    if least > most:
        yield f"minReplicaCount {least} is above maxReplicaCount {most}"
    if not spec.get("triggers"):
        yield "has no trigger"


def _certificate(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    if not any(spec.get(key) for key in ("dnsNames", "uris", "commonName", "ipAddresses")):
        yield "names nobody: say dnsNames or uris"
    hours = {key: _hours(spec[key]) for key in ("duration", "renewBefore") if key in spec}
    if len(hours) == 2 and hours["renewBefore"] >= hours["duration"]:
        yield "renewBefore is not shorter than duration"


def _hours(duration: str) -> float:
    units = {"h": 1.0, "m": 1 / 60, "s": 1 / 3600}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)([hms])", duration))


RULES = {
    "RayService": _ray_service,
    "Milvus": _milvus,
    "ScaledObject": _scaled_object,
    "Certificate": _certificate,
}
