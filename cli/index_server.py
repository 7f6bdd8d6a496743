"""Where the vector index of a home folder answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.home import Home
from recmesh.storage.milvus_process import MilvusProcess


@contextmanager
def index_server(home: Home, uri: str = "") -> Iterator[str]:
    """The Milvus at ``uri``, else the running mesh's, else the embedded one, started for this.

    The mesh's own Milvus has the file; another could not open it.
    """
    running = running_mesh(home)
    uri = uri or (running.index_uri if running else "")
    if uri:
        yield uri
    else:
        with MilvusProcess(home.vectors / "milvus.db") as process:
            yield process.uri
