"""Versions of the policy on disk, and which of them is live.

::

    policies/<version>/policy.toml     what is served
    policies/<version>/card.json       where it comes from; what was measured
    policies/live.json                 {"version": …, "previous": …}

A version is made of the content of ``policy.toml``, so publishing the same policy twice is one
version. Orchestrators follow ``live.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recmesh.orchestrator.policy import Policy
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError

NAME = "policy.toml"
HOW = "run: recmesh policy list"


@dataclass(frozen=True, slots=True)
class PolicyStore:
    """Policies below one folder. Safe for one publisher and many readers."""

    root: Path

    def publish(self, text: str, card: Mapping[str, Any]) -> str:
        """Checks a policy and keeps it; returns its version. Nothing is served by it yet.

        Raises:
            ConfigurationError: the policy breaks a rule.
        """
        version = Policy.read(text.encode(), "to be published").version
        folder = self.root / version
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((NAME, text), ("card.json", json.dumps(card, indent=2))):
            pending = folder / f".{name}.{os.getpid()}"
            pending.write_text(content)
            pending.replace(folder / name)
        return version

    def versions(self) -> list[str]:
        """All that were published, oldest first."""
        files = self.root.glob(f"*/{NAME}")
        return [file.parent.name for file in sorted(files, key=lambda f: f.stat().st_mtime)]

    def load(self, version: str) -> Policy:
        """One version.

        Raises:
            NotFoundError: there is no such version.
            ConfigurationError: it cannot work in this release.
        """
        return Policy.load(self._folder(version) / NAME)

    def text(self, version: str) -> str:
        """A version's TOML. Raises NotFoundError."""
        return (self._folder(version) / NAME).read_text()

    def card(self, version: str) -> dict[str, Any]:
        """Where a version comes from. Raises NotFoundError."""
        card: dict[str, Any] = json.loads((self._folder(version) / "card.json").read_text())
        return card

    def _folder(self, version: str) -> Path:
        folder = self.root / version
        if not version or Path(version).name != version or not (folder / NAME).is_file():
            raise NotFoundError(f"no policy {version!r}; {HOW}")
        return folder

    def _record(self) -> dict[str, str]:
        try:
            record: dict[str, str] = json.loads((self.root / "live.json").read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DataError(f"{self.root / 'live.json'} is damaged: {error}") from error
        return record

    def live(self) -> str:
        """The version that is live; empty: none was promoted, the configured file serves."""
        return self._record().get("version", "")

    def make_live(self, version: str) -> bool:
        """Points the live record at a version, atomically; False: it was live already.

        Raises:
            NotFoundError: there is no such version.
            ConfigurationError: it cannot work in this release.
        """
        self.load(version)
        now = self.live()
        if now == version:
            return False
        self._write(version, now)
        return True

    def rollback(self) -> str:
        """Makes what was live before live again; returns it; empty: the configured file.

        Raises:
            ConfigurationError: there is nothing to go back to.
        """
        record = self._record()
        if "previous" not in record:
            raise ConfigurationError("nothing was promoted that could be taken back")
        previous = record["previous"]
        if previous:
            self.load(previous)
            self._write(previous, None)
        else:
            (self.root / "live.json").unlink()
        return previous

    def _write(self, version: str, previous: str | None) -> None:
        record = {"version": version} | ({} if previous is None else {"previous": previous})
        pending = self.root / f".live.{os.getpid()}"
        pending.write_text(json.dumps(record))
        pending.replace(self.root / "live.json")

    def resolve(self, name: str, configured: Path) -> Policy:
        """A policy by version or file; empty: the live one, else the configured file's."""
        chosen = name or self.live()
        if not chosen:
            return Policy.load(configured)
        if Path(chosen).suffix == ".toml":
            return Policy.load(Path(chosen))
        return self.load(chosen)
