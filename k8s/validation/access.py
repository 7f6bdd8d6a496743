"""Who may do what: as little as their work needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from k8s.validation.manifests import Fault, Manifest, name_of, pod_templates

STEP = "access"
CHANGES = {"create", "update", "patch", "delete", "deletecollection"}
OWNER = "recmesh-owner-"
WITH_TOKEN = ("RayService/recmesh head",)
"""Pods that talk to the Kubernetes API."""


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of roles, bindings and accounts."""
    found: list[Fault] = []
    roles = {m["metadata"]["name"] for m in manifests if m.get("kind") == "Role"}
    for manifest in manifests:
        said: Iterator[str] = iter(())
        match manifest.get("kind"):
            case "ClusterRole" | "ClusterRoleBinding":
                said = iter(["reaches beyond the namespace"])
            case "Role":
                said = _role(manifest)
            case "RoleBinding":
                said = _binding(manifest, roles)
        found += [Fault(STEP, name_of(manifest), what) for what in said]
    for pod in pod_templates(manifests):
        if pod.spec.get("automountServiceAccountToken") is not False and (
            pod.where not in WITH_TOKEN
        ):
            found.append(Fault(STEP, pod.where, "automountServiceAccountToken is not false"))
    return found


def _role(manifest: Manifest) -> Iterator[str]:
    name = manifest["metadata"]["name"]
    for rule in manifest.get("rules", []):
        words = [*rule.get("verbs", []), *rule.get("resources", []), *rule.get("apiGroups", [])]
        if "*" in words:
            yield f"a rule allows everything: {rule}"
        if "secrets" in rule.get("resources", []):
            yield "reads secrets"
        if name.startswith(OWNER) and CHANGES & set(rule.get("verbs", [])):
            own = [f"recmesh-model-{name.removeprefix(OWNER)}"]
            if rule.get("resourceNames") != own:
                yield f"an owner may change {rule.get('resourceNames')}, not only {own}"


def _binding(manifest: Manifest, roles: set[str]) -> Iterator[str]:
    reference = manifest["roleRef"]
    if reference["kind"] != "Role" or reference["name"] not in roles:
        yield f"there is no {reference['kind']} {reference['name']}"
    for subject in manifest.get("subjects", []):
        if subject["name"] in ("system:authenticated", "system:unauthenticated"):
            yield f"is for everybody: {subject['name']}"
