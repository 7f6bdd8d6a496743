"""Every overlay goes through the whole chain, and a broken copy of each manifest does not."""

from __future__ import annotations

import copy
import json
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from k8s.generate import FILES, classes, generate, stale
from k8s.validate import STEPS, faults
from k8s.validation import container_scan, prometheus, schemas
from k8s.validation.manifests import (
    K8S,
    OVERLAYS,
    BuildError,
    Manifest,
    build,
    pod_templates,
)
from recmesh.cli.main import app
from tests.kubernetes.broken_copies import BROKEN, Broken, group

without_promtool = pytest.mark.skipif(
    prometheus.promtool() is None, reason="no promtool; on Debian: apt-get install prometheus"
)


@cache
def built(overlay: str) -> list[Manifest]:
    return build(K8S / "overlays" / overlay)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_no_fault(overlay: str) -> None:
    assert [str(fault) for fault in faults(built(overlay))] == []


@without_promtool
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_query_of_rules_and_dashboards_parses(overlay: str) -> None:
    assert [str(fault) for fault in prometheus.check(built(overlay))] == []


@without_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert [str(fault) for fault in prometheus.run_tests(built("prod"))] == []


@without_promtool
def test_every_alert_is_made_to_fire_by_a_test() -> None:
    fired = {
        case["alertname"]
        for file in prometheus.TESTS.glob("*.yaml")
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case.get("exp_alerts")
    }
    assert fired == _alerts()


@without_promtool
def test_an_alert_that_fires_too_late_fails_its_test() -> None:
    broken = copy.deepcopy(built("prod"))
    for manifest in broken:
        if manifest["kind"] == "PrometheusRule":
            for group in manifest["spec"]["groups"]:
                for rule in group["rules"]:
                    if rule.get("alert") == "RecMeshErrorBudgetBurn":
                        rule["expr"] = rule["expr"].replace("14.4", "100").replace("6 *", "100 *")
    (fault,) = prometheus.run_tests(broken, "availability.yaml")
    assert "RecMeshErrorBudgetBurn" in fault.what


def _alerts() -> set[str]:
    return {
        rule["alert"]
        for manifest in built("prod")
        if manifest["kind"] == "PrometheusRule"
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def test_every_runbook_is_of_an_alert() -> None:
    files = {file.stem for file in (K8S / "runbooks").glob("*.md")} - {"README"}
    assert files == _alerts()


@pytest.mark.slow
def test_checkov_finds_nothing() -> None:
    for overlay in OVERLAYS:
        assert [str(fault) for fault in container_scan.check(built(overlay))] == []


@pytest.mark.slow
def test_checkov_looks_into_ray_pods() -> None:
    broken = copy.deepcopy(built("prod"))
    (service,) = (m for m in broken if m["kind"] == "RayService")
    (container,) = group(service)["template"]["spec"]["containers"]
    container["securityContext"] = {"privileged": True}
    found = container_scan.check(broken)
    assert {fault.where for fault in found} == {"RayService/recmesh group mesh"}
    assert "CKV_K8S_16" in " ".join(fault.what for fault in found)


# What is generated.


def test_generated_files_are_current() -> None:
    assert stale() == []


def test_a_stale_file_and_one_too_many_are_found(tmp_path: Path) -> None:
    generate(tmp_path)
    assert stale(tmp_path) == []
    changed = "base/generated/mesh.toml"
    (tmp_path / changed).write_text("")
    (tmp_path / "base/generated/left").touch()
    assert stale(tmp_path) == ["base/generated/left", changed]
    assert changed in FILES


def test_a_group_holds_what_its_models_may_grow_to() -> None:
    (cpu,) = classes()
    model = cpu.models[0]
    asked = model.replicas.model_copy(update={"num_cpus": 4.0, "max_replicas": 6})
    cpu.models = [model.model_copy(update={"replicas": asked})]
    # Twice six, because a version is rolled out beside the one before.
    assert cpu.pods("max_replicas") == 12


def test_the_image_holds_every_folder_that_is_packaged() -> None:
    root = K8S.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    copied = re.findall(r"^COPY (\S+) \1$", (K8S / "Containerfile").read_text(), re.M)
    assert {folder.partition("/")[0] for folder in wheel} == set(copied)
    ignored = (root / ".containerignore").read_text().split()
    assert not set(copied) & set(ignored)


# Broken copies.


def _broken(case: Broken) -> tuple[list[Manifest], Manifest]:
    manifests = list(built(case.overlay))
    place = next(
        number
        for number, manifest in enumerate(manifests)
        if manifest["kind"] == case.kind and manifest["metadata"]["name"].startswith(case.name)
    )
    manifests[place] = copy.deepcopy(manifests[place])
    case.breaks(manifests[place])
    return manifests, manifests[place]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case.kind}: {case.what}")
def test_a_broken_copy_fails_and_names_the_fault(case: Broken) -> None:
    manifests, changed = _broken(case)
    # All others pass every schema, as shown above.
    found = schemas.check([changed])
    if not found:
        found = faults(manifests, {k: v for k, v in STEPS.items() if v is not schemas.check})
    assert found
    assert case.says in " ".join(str(fault) for fault in found)


def test_every_kind_has_a_broken_copy() -> None:
    kinds = {manifest["kind"] for overlay in OVERLAYS for manifest in built(overlay)}
    assert kinds == {case.kind for case in BROKEN}


@without_promtool
def test_a_query_that_does_not_parse_is_found() -> None:
    broken = copy.deepcopy(built("prod"))
    for manifest in broken:
        if manifest["kind"] == "PrometheusRule" and "models" in manifest["metadata"]["name"]:
            manifest["spec"]["groups"][0]["rules"][0]["expr"] = "sum by source (x)"
        if manifest["metadata"]["name"] == "recmesh-dashboards":
            dashboard = json.loads(manifest["data"]["models.json"])
            dashboard["panels"][0]["targets"][0]["expr"] = "rate(x[)"
            manifest["data"]["models.json"] = json.dumps(dashboard)
    assert {fault.where for fault in prometheus.check(broken)} == {
        "PrometheusRule/recmesh-models",
        "ConfigMap/recmesh-dashboards models.json",
    }


def test_an_overlay_that_kustomize_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(BuildError, match=r"missing\.yaml"):
        build(tmp_path)


def test_a_kind_without_a_schema_is_a_fault() -> None:
    (fault,) = schemas.check([{"apiVersion": "a/v1", "kind": "Odd", "metadata": {"name": "x"}}])
    assert "no schema of this kind" in fault.what


def test_pods_inside_custom_resources_are_found() -> None:
    places = {template.where for template in pod_templates(built("prod"))}
    assert {"RayService/recmesh head", "RayService/recmesh group models-cpu"} <= places


# What people type.


def _commands(file: Path) -> list[list[str]]:
    """recmesh commands of a page, in blocks and in lines."""
    text = file.read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]*)`", re.sub(r"^```\n.*?^```", "", text, flags=re.M | re.S))
    found = []
    for line in lines:
        if match := re.search(r"(?:^|IN |-- |\$ )recmesh (.*)", line):
            words = shlex.split(match[1], comments=True)
            found.append([{"NAME": "cf"}.get(word, word) for word in words])
    return found


PAGES = [*sorted((K8S / "runbooks").glob("*.md")), K8S.parent / "docs" / "kubernetes.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_pages_name_parse(page: Path) -> None:
    refused = [
        words
        for words in _commands(page)
        if words and CliRunner().invoke(app, [*words, "--help"]).exit_code
    ]
    assert refused == []


def test_commands_are_found_in_pages() -> None:
    assert ["status"] in _commands(K8S / "runbooks" / "RecMeshSilent.md") + _commands(
        K8S / "runbooks" / "RecMeshCriticalShed.md"
    )
