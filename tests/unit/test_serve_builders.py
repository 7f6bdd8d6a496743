"""What a cluster's applications are refused before they start, with the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from recmesh.deployments.mesh_token import FILE_VARIABLE
from recmesh.deployments.serve_builders import catalog, orchestrator, steward
from recmesh.storage.errors import ConfigurationError

CONFIG = '[callers.a]\nmethods = ["CatalogService"]\n[edge]\nsecure = {secure}\n[ray]\n{ray}\n'


@pytest.mark.parametrize("build", [catalog, orchestrator, steward])
@pytest.mark.parametrize(
    ("secure", "ray", "tokens", "said"),
    [
        ("true", "", "t" * 32, 'say "auto"'),
        ("true", 'address = "auto"', "", f"true, so {FILE_VARIABLE} must be set"),
        ("false", 'address = "auto"', "t" * 32, f"false, so {FILE_VARIABLE} must not be set"),
        ("true", 'address = "auto"', "short", "openssl rand -hex 32"),
    ],
)
def test_replicas_that_could_not_know_the_edge_do_not_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build,
    secure: str,
    ray: str,
    tokens: str,
    said: str,
) -> None:
    file = tmp_path / "mesh.toml"
    file.write_text(CONFIG.format(secure=secure, ray=ray))
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    if tokens:
        (tmp_path / "tokens").write_text(tokens)
        monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "tokens"))
    with pytest.raises(ConfigurationError, match=said):
        build({"config": str(file)})
