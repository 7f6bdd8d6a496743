"""A real Prometheus that watches a mesh of this machine by the rules that ``k8s/`` ships.

Needs Debian's package ``prometheus``. Its rules look at minutes and wait for minutes: here all
their durations are shortened by one factor, and nothing else of them is changed.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import yaml

from recmesh.storage.milvus_process import free_port

RULES = Path(__file__).resolve().parent.parent / "k8s" / "base" / "rules"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SCRAPE_S = 2
START_S = 30.0


class PrometheusServer:
    """One that runs; made by :func:`prometheus_watching`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Series of an instant query, each with ``metric`` and ``value``."""
        found: list[dict[str, Any]] = self._asked("query", query=promql)["result"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = self._asked("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def _asked(self, what: str, **asked: str) -> dict[str, Any]:
        with urlopen(f"http://{self._address}/api/v1/{what}?{urlencode(asked)}") as answer:
            said: dict[str, Any] = json.load(answer)["data"]
        return said


def hurried(text: str, times: int) -> str:
    """PromQL whose windows are so many times shorter."""

    def shorter(match: re.Match[str]) -> str:
        return f"[{_hurried_duration(match[1], times)}]"

    return re.sub(r"\[(\d+[smhd])\]", shorter, text)


def _hurried_duration(text: str, times: int) -> str:
    return f"{max(int(text[:-1]) * SECONDS[text[-1]] // times, 1)}s"


def _rules(times: int, changed: dict[str, str]) -> dict[str, Any]:
    groups = []
    for file in sorted(RULES.glob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["spec"]["groups"]:
            group["interval"] = f"{SCRAPE_S}s"
            for rule in group["rules"]:
                rule["expr"] = hurried(rule["expr"], times)
                for old, new in changed.items():
                    rule["expr"] = rule["expr"].replace(old, new)
                if "for" in rule:
                    rule["for"] = _hurried_duration(rule["for"], times)
            groups.append(group)
    return {"groups": groups}


def _scraped(job: str, urls: Sequence[str]) -> dict[str, Any]:
    return {
        "job_name": job,
        "metrics_path": urlsplit(urls[0]).path,
        "static_configs": [{"targets": [urlsplit(url).netloc for url in urls]}],
        # As the PodMonitor of k8s/base/monitors.yaml.
        "metric_relabel_configs": [
            {
                "source_labels": ["__name__"],
                "regex": "ray_(recmesh_.+)",
                "target_label": "__name__",
            }
        ],
    }


@contextmanager
def prometheus_watching(
    nodes: Sequence[str], edge: str, times: int, changed: dict[str, str]
) -> Iterator[PrometheusServer]:
    """Prometheus while the context is open.

    Args:
        nodes: URLs of the metrics of every node.
        edge: URL of Envoy's.
        times: how many times shorter its rules' durations are.
        changed: parts of rules that this machine needs otherwise.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise SystemExit("no Prometheus here; install it with: apt-get install prometheus")
    with TemporaryDirectory(prefix="recmesh-prometheus-") as name:
        folder = Path(name)
        (folder / "rules.yaml").write_text(yaml.safe_dump(_rules(times, changed)))
        scraping = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [_scraped("recmesh-ray", nodes), _scraped("recmesh-edge", [edge])],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(scraping))
        address = f"127.0.0.1:{free_port()}"
        running = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=error",
            ]
        )
        try:
            _wait_ready(address)
            yield PrometheusServer(address)
        finally:
            running.terminate()
            running.wait()


def _wait_ready(address: str) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        try:
            with urlopen(f"http://{address}/-/ready"):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"Prometheus does not come up on {address} within {START_S:.0f} s")


@contextmanager
def socket_offered(unix_socket: Path, path: str) -> Iterator[str]:
    """A path of an HTTP server that listens on a Unix socket, on a port of the loopback.

    Prometheus asks by TCP alone. Yields the URL. While the server is gone, requests fail.
    """

    class Asks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Passes the question on."""
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(unix_socket))
                    connection.sendall(
                        f"GET {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n".encode()
                    )
                    while part := connection.recv(65_536):
                        self.wfile.write(part)
            except OSError:
                self.send_error(502)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asks)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
