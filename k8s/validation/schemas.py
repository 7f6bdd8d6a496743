"""Every manifest against its schema, with no field that the schema does not know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate

from k8s.validation.manifests import K8S, Fault, Manifest, name_of

KUBERNETES = "1.37"
BUILT_IN, CUSTOM = "kubernetes-validate", "CRD schema"


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of built-in kinds and of custom ones."""
    return [fault for manifest in manifests for fault in _check(manifest)]


def _check(manifest: Manifest) -> list[Fault]:
    where = name_of(manifest)
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(part) for part in error.path)
        return [Fault(BUILT_IN, where, f"{place}: {error.message[:300]}")]
    except kubernetes_validate.SchemaNotFoundError:
        return _check_custom(manifest, where)
    return []


def _check_custom(manifest: Manifest, where: str) -> list[Fault]:
    found = custom_schemas().get(manifest.get("kind", ""))
    if found is None:
        return [Fault(CUSTOM, where, "no schema of this kind in k8s/schemas; see vendor.py there")]
    api_version, validator = found
    if manifest.get("apiVersion") != api_version:
        said = f"apiVersion {manifest.get('apiVersion')}, and the stored one is {api_version}"
        return [Fault(CUSTOM, where, said)]
    return [
        Fault(CUSTOM, where, f"{'.'.join(str(part) for part in error.path)}: {error.message[:300]}")
        for error in validator.iter_errors(manifest)
    ]


@cache
def custom_schemas() -> dict[str, tuple[str, jsonschema.Draft202012Validator]]:
    """By kind: the stored apiVersion, and what validates it."""
    found = {}
    for file in sorted((K8S / "schemas").glob("*.json")):
        told = json.loads(file.read_text())
        schema = strict(told["schema"])
        schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        found[told["kind"]] = (told["apiVersion"], jsonschema.Draft202012Validator(schema))
    return found


def strict(schema: Any) -> Any:
    """Kubernetes' structural schema as JSON Schema that refuses unknown fields.

    Fields with a default are not required: the server sets them before it validates.
    """
    if isinstance(schema, list):
        return [strict(below) for below in schema]
    if not isinstance(schema, dict):
        return schema
    # What properties are named is no keyword, and is taken below.
    left = ("default", "format", "properties")
    made = {key: strict(below) for key, below in schema.items() if key not in left}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        made["properties"] = {name: strict(below) for name, below in properties.items()}
        required = [
            name
            for name in schema.get("required", ())
            if "default" not in (properties.get(name) or {})
        ]
        made["required"] = required
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    elif schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    return made
