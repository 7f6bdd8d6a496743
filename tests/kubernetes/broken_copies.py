"""One thing wrong with each kind of manifest, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from k8s.validation.manifests import Manifest

Break = Callable[[Manifest], None]


@dataclass(frozen=True)
class Broken:
    """A manifest with one thing wrong."""

    kind: str
    name: str
    """Of the manifest; its beginning is enough."""
    what: str
    breaks: Break
    says: str
    overlay: str = "prod"


def _put(path: str, value: Any) -> Break:
    """Sets a field by its path; whole numbers are places in lists."""

    def change(manifest: Manifest) -> None:
        *way, last = path.split(".")
        place: Any = manifest
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        if last.isdigit():
            place[int(last)] = value
        else:
            place[last] = value

    return change


def _drop(path: str) -> Break:
    def change(manifest: Manifest) -> None:
        *way, last = path.split(".")
        place: Any = manifest
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        del place[int(last) if last.isdigit() else last]

    return change


def group(service: Manifest, name: str = "mesh") -> Any:
    """A worker group of a RayService."""
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return next(group for group in groups if group["groupName"] == name)


def _in_text(path: str, old: str, new: str) -> Break:
    def change(manifest: Manifest) -> None:
        place: Any = manifest
        *way, last = path.split("/")
        for step in way:
            place = place[step]
        assert old in place[last]
        place[last] = place[last].replace(old, new)

    return change


def _twice_named(service: Manifest) -> None:
    group(service)["groupName"] = "jobs"


def _nameless(certificate: Manifest) -> None:
    del certificate["spec"]["dnsNames"], certificate["spec"]["uris"]


CLUSTER = "spec.rayClusterConfig"
HEAD = f"{CLUSTER}.headGroupSpec"
HEAD_POD = f"{HEAD}.template.spec"
GROUP = f"{CLUSTER}.workerGroupSpecs.0"
POD = "spec.template.spec"
BROKEN = [
    Broken("Namespace", "recmesh", "unknown field", _put("spec", {"finalizer": []}), "finalizer"),
    Broken("ServiceAccount", "recmesh-edge", "unknown field", _put("automount", True), "automount"),
    Broken("PersistentVolumeClaim", "recmesh-home", "a number for a list", _put("spec.accessModes", 1), "accessModes"),
    Broken("Secret", "recmesh-redis", "a list for a map", _put("data", []), "data", "dev"),
    Broken("StatefulSet", "recmesh-postgres", "no serviceName's type", _put("spec.replicas", "one"), "replicas", "dev"),
    Broken("StatefulSet", "recmesh-postgres", "runs as anybody", _drop(f"{POD}.securityContext.seccompProfile"), "seccompProfile", "dev"),
    Broken("Service", "recmesh-edge", "a port by a wrong type", _put("spec.ports.0.port", "grpc"), "port"),
    Broken("Deployment", "recmesh-edge", "unknown field", _put(f"{POD}.containers.0.resource", {}), "resource"),
    Broken("Deployment", "recmesh-edge", "no version of the image", _put(f"{POD}.containers.0.image", "recmesh:latest"), "names no version"),
    Broken("Deployment", "recmesh-edge", "may become root", _put(f"{POD}.containers.0.securityContext.allowPrivilegeEscalation", True), "allowPrivilegeEscalation"),
    Broken("Deployment", "recmesh-edge", "keeps capabilities", _drop(f"{POD}.containers.0.securityContext.capabilities"), "capabilities"),
    Broken("Deployment", "recmesh-edge", "a volume of the host", _put(f"{POD}.volumes.1", {"name": "tmp", "hostPath": {"path": "/tmp"}}), "hostPath"),
    Broken("Deployment", "recmesh-edge", "a ConfigMap that is not there", _put(f"{POD}.volumes.0.configMap.name", "elsewhere"), "no ConfigMap elsewhere"),
    Broken("Deployment", "recmesh-edge", "a token that it does not need", _put(f"{POD}.automountServiceAccountToken", True), "automountServiceAccountToken"),
    Broken("Deployment", "recmesh-edge", "an account that is not there", _put(f"{POD}.serviceAccountName", "root"), "no ServiceAccount root"),
    Broken("Deployment", "recmesh-edge", "Envoys that are told nothing", _put(f"{POD}.volumes.0.configMap.name", "recmesh-dashboards"), "/etc/envoy has no envoy.json"),
    Broken("Deployment", "recmesh-edge", "no token to show replicas", _drop(f"{POD}.containers.0.volumeMounts.3"), "nothing is mounted for /etc/recmesh/mesh-token/token"),
    Broken("RayService", "recmesh", "replicas without the token that they ask for", _drop(f"{GROUP}.template.spec.containers.0.volumeMounts.5"), "nothing is mounted for RECMESH_MESH_TOKEN_FILE"),
    Broken("CronJob", "recmesh-toolbox", "commands without it", _drop("spec.jobTemplate.spec.template.spec.containers.0.volumeMounts.3"), "nothing is mounted for RECMESH_MESH_TOKEN_FILE"),
    Broken("RayService", "recmesh", "unknown field in a pod", _put(f"{GROUP}.template.spec.containers.0.resource", {}), "resource"),
    Broken("RayService", "recmesh", "unknown field of KubeRay", _put(f"{CLUSTER}.workerGroup", []), "workerGroup"),
    Broken("RayService", "recmesh", "an apiVersion that is not stored", _put("apiVersion", "ray.io/v1alpha1"), "apiVersion"),
    Broken("RayService", "recmesh", "more at least than at most", _put(f"{GROUP}.minReplicas", 99), "minReplicas 99 is above"),
    Broken("RayService", "recmesh", "an upgrade that nobody knows", _put("spec.upgradeStrategy.type", "Rolling"), "KubeRay knows"),
    Broken("RayService", "recmesh", "an upgrade that loses gRPC", _put("spec.upgradeStrategy.type", "NewClusterWithIncrementalUpgrade"), "does not route gRPC"),
    Broken("RayService", "recmesh", "a token without Ray's version", _drop(f"{CLUSTER}.rayVersion"), "needs rayVersion"),
    Broken("RayService", "recmesh", "a token and an old Ray", _put(f"{CLUSTER}.rayVersion", "2.9.0"), "2.52 or newer"),
    Broken("RayService", "recmesh", "another Ray than the mesh's", _put(f"{CLUSTER}.rayVersion", "2.59.0"), "the mesh runs on"),
    Broken("RayService", "recmesh", "two groups of one name", _twice_named, "have the same name"),
    Broken("RayService", "recmesh", "labels where KubeRay takes none", _put(f"{GROUP}.rayStartParams", {"labels": "a=b"}), "rayStartParams.labels"),
    Broken("RayService", "recmesh", "pods that start again in place", _put(f"{GROUP}.template.spec.restartPolicy", "Always"), "restartPolicy"),
    Broken("RayService", "recmesh", "Redis said twice", _put(f"{HEAD_POD}.containers.0.env", [{"name": "RAY_REDIS_ADDRESS", "value": "r:6379"}]), "RAY_REDIS_ADDRESS"),
    Broken("RayService", "recmesh", "a head that works", _put(f"{HEAD}.rayStartParams.num-cpus", "4"), "num-cpus"),
    Broken("RayService", "recmesh", "a head that callers reach", _put("spec.excludeHeadPodFromServeSvc", False), "excludeHeadPodFromServeSvc"),
    Broken("RayService", "recmesh", "deleted under calls", _put("spec.rayClusterDeletionDelaySeconds", 5), "rayClusterDeletionDelaySeconds"),
    Broken("RayService", "recmesh", "a head that forgets", _drop(f"{CLUSTER}.gcsFaultToleranceOptions"), "gcsFaultToleranceOptions"),
    Broken("RayService", "recmesh", "killed while it drains", _put(f"{GROUP}.template.spec.terminationGracePeriodSeconds", 30), "terminationGracePeriodSeconds"),
    Broken("RayService", "recmesh", "ended before it drains", _put(f"{GROUP}.template.spec.containers.0.lifecycle", {"preStop": {"exec": {"command": ["ray", "stop"]}}}), "preStop"),
    Broken("RayService", "recmesh", "no port for readiness", _drop(f"{GROUP}.template.spec.containers.0.ports.1"), "named serve"),
    Broken("RayService", "recmesh", "Serve's text is no YAML", _put("spec.serveConfigV2", "applications: ["), "ServeDeploySchema"),
    Broken("RayService", "recmesh", "no such builder", _in_text("spec/serveConfigV2", "serve_builders:catalog", "serve_builders:catalogue"), "catalogue"),
    Broken("RayService", "recmesh", "an argument that no builder takes", _in_text("spec/serveConfigV2", "owners: /etc", "owner: /etc"), "owner"),
    Broken("RayService", "recmesh", "a field that Serve would ignore", _in_text("spec/serveConfigV2", "proxy_location:", "proxy_locations:"), "proxy_locations"),
    Broken("RayService", "recmesh", "two applications on one route", _in_text("spec/serveConfigV2", "route_prefix: null", "route_prefix: /v3"), "route"),
    Broken("RayService", "recmesh", "no group carries a model's label", _put(f"{CLUSTER}.workerGroupSpecs.2.labels", {}), "no worker group carries"),
    Broken("PodDisruptionBudget", "recmesh-mesh", "a percentage", _put("spec.minAvailable", "50%"), "not a whole number"),
    Broken("PodDisruptionBudget", "recmesh-models-cpu", "selects nothing", _put("spec.selector.matchLabels", {"recmesh.io/part": "models"}), "selects no pod"),
    Broken("NetworkPolicy", "edge", "a port that is a word", _put("spec.ingress.0.ports.0.protocol", 6), "protocol"),
    Broken("NetworkPolicy", "ray", "lets in pods that are not there", _put("spec.ingress.1.from.0.podSelector.matchLabels", {"recmesh.io/part": "envoy"}), "names no pod"),
    Broken("NetworkPolicy", "default-deny", "denies half", _put("spec.policyTypes", ["Ingress"]), "none denies all"),
    Broken("GRPCRoute", "recmesh", "a service that the contract lacks", _put("spec.rules.0.matches.0.method.service", "recmesh.v1.RecommenderService"), "the contract has no service"),
    Broken("GRPCRoute", "recmesh", "an inner service", _put("spec.rules.0.matches.0.method.service", "recmesh.v1.TrialService"), "the contract has no service"),
    Broken("GRPCRoute", "recmesh", "leads nowhere", _put("spec.rules.0.backendRefs.0.name", "edge"), "no Service edge"),
    Broken("GRPCRoute", "recmesh", "unknown field", _put("spec.rules.0.retry", 3), "retry"),
    Broken("Role", "recmesh-owner-cf", "an owner of all models", _drop("rules.0.resourceNames"), "an owner may change None"),
    Broken("Role", "recmesh-owner-cf", "an owner of another's model", _put("rules.0.resourceNames", ["recmesh-model-nlp"]), "recmesh-model-nlp"),
    Broken("Role", "recmesh-operator", "everything", _put("rules.0.verbs", ["*"]), "allows everything"),
    Broken("Role", "recmesh-viewer", "reads secrets", _put("rules.0.resources", ["secrets"]), "reads secrets"),
    Broken("RoleBinding", "recmesh-viewer", "binds what is not there", _put("roleRef.name", "admin"), "no Role admin"),
    Broken("RoleBinding", "recmesh-viewer", "binds everybody", _put("subjects.0.name", "system:authenticated"), "is for everybody"),
    Broken("CronJob", "recmesh-retrain", "a command that is none", _put("spec.jobTemplate.spec.template.spec.containers.0.args.8", "retrian"), "retrian"),
    Broken("CronJob", "recmesh-tune", "an option that is none", _put("spec.jobTemplate.spec.template.spec.containers.0.args.10", "--trails=2000"), "trails"),
    Broken("CronJob", "recmesh-backup", "a home that is not there", _put("spec.jobTemplate.spec.template.spec.volumes.1.persistentVolumeClaim.claimName", "homes"), "PersistentVolumeClaim homes"),
    Broken("CronJob", "recmesh-toolbox", "a policy that is none", _put("spec.concurrencyPolicy", 3), "concurrencyPolicy"),
    Broken("PodMonitor", "recmesh-ray", "a port that no pod has", _put("spec.podMetricsEndpoints.0.port", "prometheus"), "has no port prometheus"),
    Broken("PodMonitor", "recmesh-edge", "unknown field", _put("spec.interval", "15s"), "interval"),
    Broken("PrometheusRule", "recmesh-models", "unknown field", _put("spec.groups.0.rules.0.severity", "page"), "severity"),
    Broken("PrometheusRule", "recmesh-models", "an alert without a runbook", _put("spec.groups.0.rules.0.alert", "RecMeshOdd"), "RecMeshOdd has no"),
    Broken("PrometheusRule", "recmesh-models", "a severity that nobody knows", _put("spec.groups.0.rules.0.labels.severity", "loud"), "severity"),
    Broken("ConfigMap", "recmesh-mesh", "a setting that the mesh lacks", _in_text("data/mesh.toml", "min_replicas", "min_replicsa"), "min_replicsa"),
    Broken("ConfigMap", "recmesh-mesh", "a cluster of the pod's own", _in_text("data/mesh.toml", '"auto"', '""'), "ray.address"),
    Broken("ConfigMap", "recmesh-mesh", "a caller that Envoys know otherwise", _in_text("data/mesh.toml", "requests_per_s = 100\n", "requests_per_s = 101\n"), "run python k8s/generate.py"),
    Broken("ConfigMap", "recmesh-mesh", "a secure edge without callers", _in_text("data/mesh.toml", "[callers.operator]", "[callers.operator.methods]"), "callers.operator"),
    Broken("ConfigMap", "recmesh-settings", "spans that Envoys do not begin", _put("data.RECMESH_TELEMETRY__SAMPLE_RATIO", "0.5"), "run python k8s/generate.py"),
    Broken("ConfigMap", "recmesh-settings", "an edge that only Envoys hold for secure", _drop("data.RECMESH_EDGE__SECURE"), "run python k8s/generate.py"),
    Broken("ConfigMap", "recmesh-envoy", "more than kubectl apply takes", _put("data.more", '"' + 300_000 * "x" + '"'), "kubectl apply"),
    Broken("ConfigMap", "recmesh-settings", "a variable that the mesh lacks", _put("data.RECMESH_DATABSE__URI", "x"), "there is no table databse"),
    Broken("ConfigMap", "recmesh-settings", "Ray's slow clock", _drop("data.RAY_SERVE_CONTROL_LOOP_INTERVAL_S"), "RAY_SERVE_CONTROL_LOOP_INTERVAL_S"),
    Broken("ConfigMap", "recmesh-envoy", "a cluster that Envoy lacks", _in_text("data/envoy.json", '"cluster": "catalog"', '"cluster": "catalogue"'), "catalogue"),
    Broken("ConfigMap", "recmesh-model-cf", "unknown field", _put("spec", {}), "spec"),
    Broken("Certificate", "recmesh-edge", "names nobody", _nameless, "names nobody"),
    Broken("Certificate", "recmesh-edge", "renewed for ever", _put("spec.renewBefore", "800h"), "renewBefore"),
    Broken("Certificate", "recmesh-edge", "unknown field", _put("spec.dnsName", "a"), "dnsName"),
    Broken("BackendTLSPolicy", "recmesh-edge", "no name to check", _drop("spec.validation.hostname"), "hostname"),
    Broken("OpenTelemetryCollector", "recmesh-otel", "a mode that is none", _put("spec.mode", "cluster"), "mode"),
    Broken("Milvus", "recmesh-milvus", "a mode that is none", _put("spec.mode", "distributed"), "'distributed' is not one of"),
    Broken("Milvus", "recmesh-milvus", "a log of one machine", _put("spec.dependencies.msgStreamType", "rocksmq"), "rocksmq"),
    Broken("Milvus", "recmesh-milvus", "unknown field", _put("spec.components.querynode", {}), "querynode"),
    Broken("ScaledObject", "recmesh-edge", "more at least than at most", _put("spec.minReplicaCount", 99), "is above maxReplicaCount"),
    Broken("ScaledObject", "recmesh-edge", "scales nothing", _put("spec.scaleTargetRef.name", "edge"), "no Deployment edge"),
]  # fmt: skip
