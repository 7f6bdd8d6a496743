"""What is checked: a model's folder, which is served here, or an address where one serves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from recmesh.offline.model_checks.model_folder import ModelFolder
from recmesh.offline.model_checks.served_folder import ServedFolder
from recmesh.offline.model_checks.subject import Subject
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")


def is_address(text: str) -> bool:
    """Whether it is ``host:port``."""
    return bool(ADDRESS.fullmatch(text)) and not Path(text).exists()


@asynccontextmanager
async def opened(
    target: str, home: Home, *, seed: int = 0, version: str = "", token: str = ""
) -> AsyncIterator[Subject]:
    """Serves what has to be served, and connects.

    Args:
        target: a name of the registry, a folder, or ``host:port``.
        home: folder of artifacts and data.
        seed: of users, items and trainings.
        version: of the artifact; empty: the live one.
        token: of the mesh that an address is in; empty: it has none.

    Raises:
        NotFoundError: there is no such model, or it was never trained.
        ConfigurationError: the folder is no model's, or a version is chosen for an address.
        UnavailableError: it cannot be served, or nobody answers there.
    """
    dataset = Dataset.open_or_empty(home.dataset)
    with ExitStack() as stack:
        if is_address(target):
            if version:
                raise ConfigurationError(
                    f"{target} serves the version that it serves: leave --version out"
                )
            subject = await Subject.opened(
                target, home=home, folder=None, dataset=dataset, seed=seed, token=token
            )
        else:
            folder = ModelFolder.of(target)
            store = ArtifactStore(home.artifacts)
            chosen = version or store.live_version(folder.name)
            store.check_exists(folder.name, chosen)
            served = stack.enter_context(ServedFolder(target, chosen, home))
            subject = await Subject.opened(
                served.address,
                home=home,
                folder=folder,
                dataset=dataset,
                seed=seed,
                version=chosen,
                last_error=served.last_error,
                revived=served.revived,
            )
        try:
            yield subject
        finally:
            await subject.close()
