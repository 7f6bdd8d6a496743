"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recmesh.deployments.ray_cluster import leave_cluster, start_cluster
from recmesh.storage.home import Home


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray cluster that this process drives, with Serve on it."""
    start_cluster(Home(tmp_path_factory.mktemp("cluster")), num_cpus=4)
    yield
    leave_cluster()
