"""Makes the schemas beside this file from the operators' own CustomResourceDefinitions.

    python k8s/schemas/vendor.py FOLDER

``FOLDER`` holds one folder for each operator, ``NAME-VERSION``, with its CRDs as YAML. Descriptions
are left out, and versions that are not stored; nothing else is changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
WANTED = {
    "kuberay": ["ray.io_rayservices"],
    "milvus-operator": ["milvus.io_milvuses"],
    "cert-manager": ["cert-manager.io_certificates", "cert-manager.io_issuers"],
    "keda": ["keda.sh_scaledobjects", "keda.sh_triggerauthentications"],
    "prometheus-operator": [
        "monitoring.coreos.com_podmonitors",
        "monitoring.coreos.com_prometheusrules",
    ],
    "gateway-api": [
        "gateway.networking.k8s.io_grpcroutes",
        "gateway.networking.k8s.io_backendtlspolicies",
    ],
    "opentelemetry-operator": ["opentelemetry.io_opentelemetrycollectors"],
}


def slim(value: Any) -> Any:
    """Without descriptions, which are most of it; a property of that name stays."""
    if isinstance(value, dict):
        return {
            key: slim(below)
            for key, below in value.items()
            if not (key == "description" and isinstance(below, str))
        }
    return [slim(below) for below in value] if isinstance(value, list) else value


def main() -> None:
    """Writes one JSON file for each kind."""
    source = Path(sys.argv[1])
    sources: list[str] = []
    for operator, files in WANTED.items():
        (folder,) = source.glob(f"{operator}-v*")
        for name in files:
            crd = yaml.load((folder / f"{name}.yaml").read_text(), yaml.CSafeLoader)
            spec = crd["spec"]
            (version,) = (one for one in spec["versions"] if one["storage"])
            schema = slim(version["schema"]["openAPIV3Schema"])
            kind = spec["names"]["kind"]
            written = {
                "apiVersion": f"{spec['group']}/{version['name']}",
                "kind": kind,
                "schema": schema,
            }
            (HERE / f"{kind}.json").write_text(
                json.dumps(written, separators=(",", ":"), sort_keys=True) + "\n"
            )
            sources.append(f"| {kind} | {folder.name} | `{name}.yaml` |")
    (HERE / "SOURCES.md").write_text(
        "# Where these come from\n\n"
        "Made by `vendor.py` from the operators' own releases, descriptions left out. All are "
        "under the Apache License 2.0 (`LICENSE`); KubeRay's file has additions of its own "
        "(`LICENSE.kuberay`).\n\n| kind | release | file |\n|---|---|---|\n"
        + "\n".join(sources)
        + "\n"
    )


if __name__ == "__main__":
    main()
