"""``serveConfigV2``: a text to Kubernetes, so that only Serve knows whether it can work."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence

import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from k8s.validation.manifests import Fault, Manifest, name_of
from recmesh.deployments.serve_builders import Built

STEP = "ServeDeploySchema"


def check(manifests: Sequence[Manifest]) -> list[Fault]:
    """Faults of every RayService's applications."""
    services = [manifest for manifest in manifests if manifest.get("kind") == "RayService"]
    return [fault for service in services for fault in _check(service)]


def _check(service: Manifest) -> list[Fault]:
    where = name_of(service)
    text = service["spec"].get("serveConfigV2", "")
    try:
        told = yaml.safe_load(text)
        config = ServeDeploySchema.model_validate(told)
    except (yaml.YAMLError, ValidationError) as error:
        return [Fault(STEP, where, " ".join(str(error).split())[:300])]
    found = [
        # Serve itself ignores what it does not know.
        Fault(STEP, where, f"serveConfigV2 has no field {key}")
        for key in told
        if key not in ServeDeploySchema.model_fields
    ]
    for application in config.applications:
        module, _, name = application.import_path.partition(":")
        try:
            builder = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            found.append(Fault(STEP, where, f"{application.name}: {error}"))
            continue
        if len(inspect.signature(builder).parameters) != 1:
            found.append(Fault(STEP, where, f"{application.name}: {name} builds nothing"))
        try:
            Built.model_validate(application.args)
        except ValidationError as error:
            said = " ".join(str(error).split())[:200]
            found.append(Fault(STEP, where, f"{application.name}: args: {said}"))
    return found
