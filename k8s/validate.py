"""Checks every overlay as far as it can be checked without a cluster.

    python -m k8s.validate                  every overlay, every step
    python -m k8s.validate prod --no-checkov
    python -m k8s.validate --json

Steps, in this order, each on what the ones before let through: kustomize build, Kubernetes' own
schemas (strict), the operators' CRD schemas (strict), what operators refuse beyond that, Serve's
schema, rules of this house, promtool, checkov. Exit status 1 when anything is found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from k8s.generate import stale
from k8s.validation import (
    access,
    container_scan,
    edge,
    links,
    operators,
    pods,
    prometheus,
    schemas,
    serve_config,
    settings,
)
from k8s.validation.manifests import K8S, OVERLAYS, BuildError, Fault, Manifest, build

Check = Callable[[Sequence[Manifest]], list[Fault]]
STEPS: dict[str, Check] = {
    "schemas, strict": schemas.check,
    "operator rules": operators.check,
    "Serve's schema": serve_config.check,
    "pod rules": pods.check,
    "links": links.check,
    "access": access.check,
    "settings": settings.check,
    "edge": edge.check,
}
PROMETHEUS: dict[str, Check] = {
    "promtool check": prometheus.check,
    "promtool test": prometheus.run_tests,
}


def faults(manifests: Sequence[Manifest], steps: dict[str, Check] | None = None) -> list[Fault]:
    """All faults; steps after one that found something are left out, since they would stumble."""
    for check in (steps or STEPS).values():
        if found := check(manifests):
            return found
    return []


def _steps(with_checkov: bool) -> tuple[dict[str, Check], list[str]]:
    steps, left_out = dict(STEPS), []
    if prometheus.promtool():
        steps |= PROMETHEUS
    else:
        left_out.append("promtool: not installed (Debian: apt-get install prometheus)")
    if with_checkov:
        steps["checkov"] = container_scan.check
    else:
        left_out.append("checkov: not asked for")
    return steps, left_out


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overlays", nargs="*", help=f"of {', '.join(OVERLAYS)}; all when none")
    parser.add_argument("--no-checkov", action="store_true", help="leave the longest step out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.overlays) - set(OVERLAYS):
        parser.error(f"no overlay {', '.join(sorted(unknown))}; there are {', '.join(OVERLAYS)}")
    steps, left_out = _steps(not arguments.no_checkov)
    table = Table("overlay", "step", "manifests", "faults", "s")
    found: list[Fault] = [
        Fault("generate", f"k8s/{name}", "is stale: python k8s/generate.py") for name in stale()
    ]
    for overlay in arguments.overlays or OVERLAYS:
        since = time.monotonic()
        try:
            manifests = build(K8S / "overlays" / overlay)
        except BuildError as error:
            found.append(Fault("kustomize", overlay, str(error)))
            continue
        table.add_row(overlay, "kustomize build", str(len(manifests)), "0", _s(since))
        for name, check in steps.items():
            since = time.monotonic()
            these = check(manifests)
            table.add_row(overlay, name, "", str(len(these)), _s(since))
            found += these
            if these:
                break
    if arguments.json:
        print(json.dumps({"faults": [asdict(one) for one in found], "left_out": left_out}))
    else:
        console = Console()
        console.print(table)
        for said in left_out:
            console.print(f"left out: {said}", style="yellow", markup=False)
        for fault in found:
            console.print(str(fault), style="red", markup=False, soft_wrap=True)
    sys.exit(bool(found))


def _s(since: float) -> str:
    return f"{time.monotonic() - since:.1f}"


if __name__ == "__main__":
    main()
