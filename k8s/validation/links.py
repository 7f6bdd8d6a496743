"""What one manifest says of another: selectors that select nothing, names of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from k8s.validation.manifests import K8S, Fault, Manifest, PodTemplate, name_of, pod_templates
from recmesh.v1 import catalog_pb2, feedback_pb2, recommendation_pb2

STEP = "links"
BY_REFERENCE = {
    "recmesh-attribution",
    "recmesh-backup",
    "recmesh-database",
    "recmesh-mesh-token",
    "recmesh-milvus-storage",
    "recmesh-ray-token",
    "recmesh-redis",
}
"""Secrets that whoever installs makes: none is in the repository."""
HEALTH = "grpc.health.v1.Health"
OPERATORS_MAKE = {"recmesh-serve-svc", "recmesh-head-svc", "recmesh-milvus"}


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of references between manifests."""
    pods = list(pod_templates(manifests))
    found: list[Fault] = []
    for manifest in manifests:
        said: Iterator[str] = iter(())
        match manifest.get("kind"):
            case "PodDisruptionBudget":
                said = _budget(manifest, pods)
            case "NetworkPolicy":
                said = _policy(manifest, pods)
            case "PodMonitor":
                said = _monitor(manifest, pods)
            case "GRPCRoute":
                said = _route(manifest, manifests)
            case "ScaledObject":
                said = _scaled(manifest, manifests)
            case "PrometheusRule":
                said = _alerts(manifest)
        found += [Fault(STEP, name_of(manifest), what) for what in said]
    found += [Fault(STEP, pod.where, what) for pod in pods for what in _sources(pod, manifests)]
    return found + _default_deny(manifests)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(
        labels.get(one["key"]) in one.get("values", [])
        for one in selector.get("matchExpressions", [])
        if one["operator"] == "In"
    )


def _selected(selector: dict[str, Any], pods: Sequence[PodTemplate]) -> list[PodTemplate]:
    return [pod for pod in pods if _selects(selector, pod.labels)]


def _budget(manifest: Manifest, pods: Sequence[PodTemplate]) -> Iterator[str]:
    spec = manifest["spec"]
    if not isinstance(spec.get("minAvailable"), int):
        yield f"minAvailable {spec.get('minAvailable')!r} is not a whole number"
    if not _selected(spec["selector"], pods):
        yield f"selects no pod: {spec['selector']}"


def _policy(manifest: Manifest, pods: Sequence[PodTemplate]) -> Iterator[str]:
    spec = manifest["spec"]
    labels = [pod.labels for pod in pods]
    # Pods that an operator makes are in no manifest.
    theirs = "recmesh.io/pods-of" in manifest["metadata"].get("annotations", {})
    if spec["podSelector"] and not theirs and not _selected(spec["podSelector"], pods):
        yield f"selects no pod: {spec['podSelector']}"
    for rule in (*spec.get("ingress", []), *spec.get("egress", [])):
        for peer in (*rule.get("from", []), *rule.get("to", [])):
            selector = peer.get("podSelector")
            # Pods of other namespaces are not ours to know.
            if selector and "namespaceSelector" not in peer:
                keys = selector.get("matchLabels", {})
                ours = all(key.startswith("recmesh.io/") for key in keys)
                if ours and not any(_selects(selector, known) for known in labels):
                    yield f"names no pod: {selector}"


def _monitor(manifest: Manifest, pods: Sequence[PodTemplate]) -> Iterator[str]:
    spec = manifest["spec"]
    selected = _selected(spec["selector"], pods)
    if not selected:
        yield f"selects no pod: {spec['selector']}"
    for pod in selected:
        ports = {p.get("name") for c in pod.spec["containers"] for p in c.get("ports", [])}
        for endpoint in spec["podMetricsEndpoints"]:
            if endpoint.get("port") not in ports:
                yield f"{pod.where} has no port {endpoint.get('port')}"


def _names(manifests: Sequence[Manifest], kind: str) -> set[str]:
    return {m["metadata"]["name"] for m in manifests if m.get("kind") == kind}


def _route(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    services = {
        service.full_name
        for module in (catalog_pb2, feedback_pb2, recommendation_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    } | {HEALTH}
    for rule in manifest["spec"].get("rules", []):
        if not rule.get("matches"):
            yield "a rule without matches would lead to every service"
        for match in rule.get("matches", []):
            named = match.get("method", {}).get("service", "")
            if named not in services:
                yield f"the contract has no service {named!r}"
        for backend in rule.get("backendRefs", []):
            if backend["name"] not in _names(manifests, "Service"):
                yield f"there is no Service {backend['name']}"


def _scaled(manifest: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    target = manifest["spec"]["scaleTargetRef"]
    kind = target.get("kind", "Deployment")
    if target["name"] not in _names(manifests, kind):
        yield f"there is no {kind} {target['name']}"


def _alerts(manifest: Manifest) -> Iterator[str]:
    for group in manifest["spec"].get("groups", []):
        for rule in group.get("rules", []):
            if "alert" not in rule:
                continue
            file = K8S / "runbooks" / f"{rule['alert']}.md"
            if not file.is_file():
                yield f"alert {rule['alert']} has no k8s/runbooks/{file.name}"
            if not rule.get("annotations", {}).get("runbook_url", "").endswith(file.name):
                yield f"alert {rule['alert']}: runbook_url does not lead to {file.name}"
            if rule.get("labels", {}).get("severity") not in ("page", "ticket"):
                yield f"alert {rule['alert']}: severity is neither page nor ticket"


def _sources(pod: PodTemplate, manifests: Sequence[Manifest]) -> Iterator[str]:
    claim = "PersistentVolumeClaim"
    known = {kind: _names(manifests, kind) for kind in ("ConfigMap", "Secret", claim)}
    known["Secret"] |= BY_REFERENCE
    known["Secret"] |= {
        m["spec"]["secretName"] for m in manifests if m.get("kind") == "Certificate"
    }
    for kind, name in _referred(pod.spec):
        if name not in known[kind]:
            yield f"there is no {kind} {name}"
    account = pod.spec.get("serviceAccountName", "default")
    if account not in _names(manifests, "ServiceAccount"):
        yield f"there is no ServiceAccount {account}"


def _referred(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for below in value:
            yield from _referred(below)
    elif isinstance(value, dict):
        for key, below in value.items():
            if key in ("configMapRef", "configMapKeyRef", "configMap"):
                yield "ConfigMap", below["name"]
            elif key in ("secretRef", "secretKeyRef"):
                yield "Secret", below["name"]
            elif key == "secret" and isinstance(below, dict):
                yield "Secret", below.get("secretName", below.get("name", ""))
            elif key == "persistentVolumeClaim":
                yield "PersistentVolumeClaim", below["claimName"]
            else:
                yield from _referred(below)


def _default_deny(manifests: Sequence[Manifest]) -> list[Fault]:
    for manifest in manifests:
        if manifest.get("kind") == "NetworkPolicy":
            spec = manifest["spec"]
            both = set(spec.get("policyTypes", [])) == {"Ingress", "Egress"}
            if (
                both
                and not spec["podSelector"]
                and not spec.get("ingress")
                and not spec.get("egress")
            ):
                return []
    return [Fault(STEP, "NetworkPolicy", "none denies all that no other allows")]
