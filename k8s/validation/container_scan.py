"""checkov on the pods, which it does not find inside custom resources by itself.

checkov pins much that the mesh needs otherwise, so it lives in a virtual environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import yaml

from k8s.validation.manifests import Fault, Manifest, pod_templates

STEP = "checkov"
VERSION = "3.3.30"
SKIPPED = {
    "CKV_K8S_8": "Ray pods: KubeRay adds probes; jobs end by themselves",
    "CKV_K8S_9": "as CKV_K8S_8",
    "CKV_K8S_11": "CPU limits are set; Envoy's may burst",
    "CKV_K8S_14": "the image's tag is set by overlays, and held to one by the pod rules",
    "CKV_K8S_15": "a tag names one image, so it need not be pulled each time",
    "CKV_K8S_21": "the namespace is not in the extracted pod",
    "CKV_K8S_35": "the database's URI is a variable of the mesh, from a secret",
    "CKV_K8S_38": "the head's autoscaler needs the API; the access rules hold all others",
    "CKV_K8S_40": "the user is 10001 in the pod's context",
    "CKV_K8S_43": "digests are the registry's to give; overlays may say them",
    "CKV2_K8S_6": "network policies are in the same overlay, not in the extracted pod",
}
"""Checks left out, and why."""


def executable(folder: Path | None = None) -> Path:
    """checkov, installed on first use: 290 MB, about a minute."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    folder = folder or Path(cache).expanduser() / "recmesh" / f"checkov-{VERSION}"
    found = folder / "bin" / "checkov"
    if not (folder / ".installed").is_file():
        venv.create(folder, with_pip=True, clear=True)
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", *quiet, f"checkov=={VERSION}"],
            check=True,
            stdout=sys.stderr,
        )
        (folder / ".installed").touch()
    return found


def check(manifests: Sequence[Manifest], binary: Path | None = None) -> list[Fault]:
    """What checkov finds in each pod. Needs the network on first use."""
    with tempfile.TemporaryDirectory() as scratch:
        places = {}
        for number, template in enumerate(pod_templates(manifests)):
            file = Path(scratch) / f"pod-{number}.yaml"
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**template.metadata, "name": f"pod-{number}"},
                "spec": template.spec,
            }
            file.write_text(yaml.safe_dump(pod))
            places[file.name] = template.where
        done = subprocess.run(
            [
                str(binary or executable()),
                *("-d", scratch, "--framework", "kubernetes", "--skip-download", "--compact"),
                *("--output", "json", "--quiet", "--skip-check", ",".join(SKIPPED)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return [Fault(STEP, "checkov", (done.stderr or done.stdout).strip()[-300:])]
    if not isinstance(report, dict) or "results" not in report:
        return [] if not places else [Fault(STEP, "checkov", "it checked nothing")]
    return [
        Fault(
            STEP,
            places[Path(failed["file_path"]).name],
            f"{failed['check_id']}: {failed['check_name']}",
        )
        for failed in report["results"]["failed_checks"]
    ]
