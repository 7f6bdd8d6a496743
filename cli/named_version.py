"""``MODEL@VERSION`` on a command line."""

from __future__ import annotations

from dataclasses import dataclass

from recmesh.models.registry import check_known
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.errors import ConfigurationError, NotFoundError


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A model and one of its versions."""

    model: str
    version: str

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


def named_version(text: str, store: ArtifactStore) -> NamedVersion:
    """``MODEL@VERSION``; of the version, as much as no other begins with.

    ``MODEL`` alone is the newest version that is not live, or the live one where there is no other.

    Raises:
        NotFoundError: there is no such model or version.
        ConfigurationError: several versions begin like that.
    """
    model, _, wanted = text.partition("@")
    check_known(model)
    versions = store.versions(model)
    if not wanted:
        live = store.live_version(model) if store.has_live(model) else ""
        others = [version for version in store.by_age(model) if version != live]
        if not others and not live:
            raise NotFoundError(f"model {model} was never trained; run: recmesh train {model}")
        return NamedVersion(model, others[-1] if others else live)
    found = [version for version in versions if version.startswith(wanted)]
    if not found:
        raise NotFoundError(
            f"model {model} has no version {wanted}; it has {', '.join(versions) or 'none'}"
        )
    if len(found) > 1:
        raise ConfigurationError(f"{text}: {', '.join(found)} begin like that; say more of it")
    return NamedVersion(model, found[0])
