"""Tells Envoys where replicas are, as a test says: what an address book's discovery answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recmesh.deployments.endpoint_discovery import PATH
from recmesh.deployments.envoy_config import endpoints


class EndpointBook(ThreadingHTTPServer):
    """Answers polls with the addresses it was given last."""

    addresses: Mapping[str, Sequence[str]] = {}
    """By cluster."""
    asked = 0
    connections = 0

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: EndpointBook
    protocol_version = "HTTP/1.1"  # would keep connections

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        (cluster,) = json.loads(self.rfile.read(length))["resource_names"]
        self.server.asked += 1
        known = self.server.addresses.get(cluster, ())
        if self.path != PATH or not known:
            self.send_response(304)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        told = {"version_info": "1", **json.loads(endpoints(known, cluster))}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def endpoint_book() -> Iterator[EndpointBook]:
    """Answers while the context is open."""
    server = EndpointBook(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
