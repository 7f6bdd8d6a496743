"""Lets an Envoy end without a failed call: ``python -m recmesh.deployments.edge_drain SOCKET S``.

For the hook that Kubernetes runs before it ends a pod. On SIGTERM alone Envoy closes every
connection at once, with the calls on it. Here it first tells callers to go elsewhere (HTTP/2
GOAWAY on each connection's next answer) and takes no new connections; then this waits for the calls
under way.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

ANSWER_S = 5.0
PATHS = ("/healthcheck/fail", "/drain_listeners?graceful&skip_exit")


def post(admin: Path, path: str) -> bool:
    """Asks Envoy's admin interface for a change; returns whether it took it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(admin))
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        answer = connection.recv(1024)
    return b" 200 " in answer.partition(b"\r\n")[0]


def drain(admin: Path, wait_s: float) -> bool:
    """Drains and waits; returns whether Envoy took it. One that is gone has nothing to drain."""
    try:
        taken = all(post(admin, path) for path in PATHS)
    except OSError:
        return False
    time.sleep(wait_s)
    return taken


def main() -> None:
    """Exits with 1 when Envoy did not take it; Kubernetes ends it all the same."""
    admin, wait_s = Path(sys.argv[1]), float(sys.argv[2])
    sys.exit(0 if drain(admin, wait_s) else 1)


if __name__ == "__main__":
    main()
