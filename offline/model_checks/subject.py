"""What a check is given: the model that serves, and what is known of it here."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import psutil

from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.models.declaration import ModelDeclaration
from recmesh.models.model import Capability, Model, Progress, silent
from recmesh.offline.model_checks.judged_period import JudgedPeriod, judged_period
from recmesh.offline.model_checks.material import Material, material
from recmesh.offline.model_checks.model_folder import ModelFolder
from recmesh.offline.model_checks.model_port import CallFailedError, ModelPort
from recmesh.offline.model_checks.result import NotCheckedError
from recmesh.orchestrator.model_client import ModelClient
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import NotFoundError, RecMeshError, UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import model_pb2

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LOCAL = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


@dataclass
class Subject:
    """One model under check. Belongs to the event loop in which it was opened."""

    port: ModelPort
    client: ModelClient
    home: Home
    folder: ModelFolder | None
    """None: only an address is known."""
    dataset: Dataset | None
    said: model_pb2.DescribeResponse
    """Its Describe."""
    asks: Material
    seed: int
    version: str = ""
    """Of the artifact that was chosen; empty: whatever it says."""
    last_error: Callable[[], str] = lambda: ""
    """The last error that the serving process wrote, where that can be read."""
    revived: Callable[[], str] = lambda: ""
    """Starts what has ended again; its new address, or empty when all is well."""
    progress: Progress = field(default=silent)

    @classmethod
    async def opened(
        cls,
        address: str,
        *,
        home: Home,
        folder: ModelFolder | None,
        dataset: Dataset | None,
        seed: int,
        version: str = "",
        last_error: Callable[[], str] = lambda: "",
        revived: Callable[[], str] = lambda: "",
        token: str = "",
    ) -> Subject:
        """Connects, and asks what the model is.

        ``folder`` None: that of the registry which has the name that it says, if any; ``token`` of
        the mesh that the address is in.

        Raises:
            UnavailableError: nobody answers Describe there.
        """
        port = ModelPort(address, token)
        try:
            said = await port.describe()
        except CallFailedError as error:
            await port.close()
            raise UnavailableError(f"no model at {address}: {error}") from error
        if folder is None:
            with suppress(NotFoundError):
                folder = ModelFolder.of(said.name) if NAME.fullmatch(said.name) else None
        asks = await material(port, said, dataset, seed)
        client = _client(said, address, token)
        return cls(
            port, client, home, folder, dataset, said, asks, seed, version, last_error, revived
        )

    async def revive(self) -> None:
        """Goes on with a server that was started again, if it had ended."""
        address = self.revived()
        if address:
            await self.close()
            self.port, self.client = ModelPort(address), _client(self.said, address)

    async def close(self) -> None:
        """Closes connections."""
        await self.client.close()
        await self.port.close()

    def can(self, capability: Capability) -> bool:
        """Whether it says that it supports a call."""
        return capability.value in self.said.capabilities

    def need(self, *capabilities: Capability) -> None:
        """Raises NotCheckedError when it supports none of the calls."""
        if not any(map(self.can, capabilities)):
            names = " or ".join(capability.name.capitalize() for capability in capabilities)
            raise NotCheckedError(f"it does not offer {names}")

    @property
    def declaration(self) -> ModelDeclaration | None:
        """Its ``model.toml``; None where that is not known."""
        return self.folder.declaration if self.folder else None

    def its_folder(self) -> ModelFolder:
        """Raises NotCheckedError without one."""
        if self.folder is None:
            raise NotCheckedError(
                "only an address is known; name the model or its folder to train it here"
            )
        return self.folder

    def its_dataset(self) -> Dataset:
        """Raises NotCheckedError without data."""
        if self.dataset is None or not len(self.dataset.events):
            raise NotCheckedError(
                f"no events in {self.home.root}; run: recmesh ingest DIR, or set RECMESH_HOME"
            )
        return self.dataset

    @cached_property
    def artifact(self) -> Artifact:
        """The artifact that it says it serves.

        Raises:
            NotCheckedError: it is not in the home folder.
        """
        version = self.said.version
        try:
            return ArtifactStore(self.home.artifacts).load(self.said.name, version)
        except RecMeshError as error:
            raise NotCheckedError(f"its artifact cannot be read here: {error}") from error

    @cached_property
    def loaded(self) -> Model:
        """That artifact, loaded in this process."""
        return self.its_folder().load(self.artifact)

    @cached_property
    def judged(self) -> JudgedPeriod:
        """Its scores on events later than what it learned from; trains it where need be."""
        dataset, folder = self.its_dataset(), self.its_folder()
        artifact = None
        with suppress(NotCheckedError):
            artifact = self.artifact
        return judged_period(folder, dataset, artifact, self.home, self.seed, self.progress)

    def process(self) -> psutil.Process:
        """The process that serves.

        Raises:
            NotCheckedError: it runs on another machine, or cannot be seen.
        """
        host, _, port = self.port.address.rpartition(":")
        if host not in LOCAL | _own_addresses():
            raise NotCheckedError(f"{host} is another machine: its memory cannot be seen from here")
        with suppress(psutil.Error):
            for connection in psutil.net_connections("tcp"):
                if (
                    connection.status == psutil.CONN_LISTEN
                    and connection.laddr[1:] == (int(port),)
                    and connection.pid
                ):
                    return psutil.Process(connection.pid)
        raise NotCheckedError(f"the process that listens on port {port} belongs to somebody else")


def _client(said: model_pb2.DescribeResponse, address: str, token: str = "") -> ModelClient:
    return GrpcModelClient(said.name or "model", [address], pinned=True, token=token)


def _own_addresses() -> frozenset[str]:
    return frozenset(
        one.address for some in psutil.net_if_addrs().values() for one in some if one.address
    )
