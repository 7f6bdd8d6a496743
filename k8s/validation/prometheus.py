"""Alerts and dashboards: every query parses, and the alerts fire as their tests say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from k8s.validation.manifests import K8S, Fault, Manifest, name_of

STEP = "promtool"
TESTS = K8S / "base" / "rules" / "tests"
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}
"""Grafana's own, as it would fill them in."""


def promtool() -> str | None:
    """Debian's package prometheus has it; None: it is not installed."""
    return shutil.which("promtool")


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of rules and dashboards. Needs promtool."""
    found: list[Fault] = []
    for manifest in manifests:
        if manifest.get("kind") == "PrometheusRule":
            rules = {"groups": manifest["spec"].get("groups", [])}
            found += [Fault(STEP, name_of(manifest), said) for said in _refused(rules)]
        elif manifest.get("kind") == "ConfigMap":
            for file, text in (manifest.get("data") or {}).items():
                labels = manifest["metadata"].get("labels", {})
                if "grafana_dashboard" in labels:
                    found += _dashboard(f"{name_of(manifest)} {file}", text)
    return found


def _refused(rules: dict[str, Any]) -> list[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(rules, file)
        file.flush()
        done = _run("check", "rules", file.name)
    if not done.returncode:
        return []
    said = (done.stderr + done.stdout).replace(file.name, "rules")
    return [" ".join(said.split())[:300]]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = promtool()
    assert binary is not None, "install Debian's package prometheus"
    return subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    """PromQL of a Grafana dashboard, with Grafana's variables filled in."""
    for panel in dashboard.get("panels", []):
        yield from queries(panel)
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            yield re.sub(r"\$\{?\w+\}?", ".*", text)


def _dashboard(where: str, text: str) -> list[Fault]:
    try:
        dashboard = json.loads(text)
    except ValueError as error:
        return [Fault(STEP, where, f"is no JSON: {error}")]
    asked = list(queries(dashboard))
    if not asked:
        return [Fault(STEP, where, "asks nothing")]
    rules = [{"record": f"dashboard:query{n}", "expr": query} for n, query in enumerate(asked)]
    said = _refused({"groups": [{"name": "dashboard", "rules": rules}]})
    return [Fault(STEP, where, one) for one in said]


def run_tests(manifests: Sequence[Manifest], files: str = "*.yaml") -> list[Fault]:
    """Runs the tests beside the rules, those that match, on the rules of an overlay."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        groups = [
            group
            for manifest in manifests
            if manifest.get("kind") == "PrometheusRule"
            for group in manifest["spec"].get("groups", [])
        ]
        (Path(scratch) / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
        for test in sorted(TESTS.glob(files)):
            shutil.copy(test, scratch)
            done = _run("test", "rules", str(Path(scratch) / test.name))
            if done.returncode:
                said = " ".join((done.stderr + done.stdout).split())[:1500]
                found.append(Fault(STEP, test.name, said))
    return found
