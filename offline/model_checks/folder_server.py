"""Serves a model's folder until it is ended: ``folder_server TARGET VERSION READY_FILE``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.offline.model_checks.model_folder import ModelFolder
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import RecMeshError
from recmesh.storage.home import Home


async def _serve(target: str, version: str, ready: Path) -> None:
    folder = ModelFolder.of(target)
    artifact = ArtifactStore(Home.from_environment().artifacts).load(folder.name, version or None)
    methods = ModelMethods(folder.load(artifact))
    await methods.warm_up()
    server = model_server(methods)
    port = await server.start("127.0.0.1:0")
    pending = ready.with_suffix(".pending")
    pending.write_text(json.dumps({"address": f"127.0.0.1:{port}"}))
    pending.replace(ready)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_serve(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    except RecMeshError as error:
        sys.exit(str(error))
