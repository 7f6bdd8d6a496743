"""Trained models on disk: safetensors and a JSON model card, content-addressed.

::

    artifacts/<model>/<version>/model.safetensors
    artifacts/<model>/<version>/card.json
    artifacts/<model>/live.json                    {"version": …, "previous": …,
                                                    "left": …}

A version is a hash of its content, so publishing the same model twice is one version.
No pickle anywhere: loading an artifact never runs code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recmesh.storage.errors import ArtifactError, NotFoundError

FORMAT = 1
STRINGS = "strings."
"""Begins the names of string lists in a file."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What must be known about a trained model to trust it.

    ``metrics`` and ``calibration`` come from a temporal holdout: the same training on what
    lies before ``metrics["holdout_start"]``, judged on what came after, never on training
    data. What is published may then be trained on the holdout too.
    """

    model: str
    owner: str
    summary: str
    dataset_version: str
    trained_until: str
    """ISO 8601 moment; no later event was used. Empty: all events were."""
    seed: int
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, list[float]] = field(default_factory=dict)
    """``raw_scores`` and ``probabilities`` of the contract's ScoreCalibration, or empty."""
    limitations: str = ""
    code_version: str = ""
    """Names the code that trained it; empty: not recorded."""
    newest_data: str = ""
    """ISO 8601 moment; neither an event nor a dated edge that is newer was used. Empty: not
    recorded. Later events are ones that the model has never seen."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Artifact:
    """One loaded version."""

    version: str
    card: ModelCard
    tensors: Mapping[str, npt.NDArray[Any]]
    strings: Mapping[str, list[str]]
    appended: Path | None = None
    """Folder of what was added after training (:mod:`recmesh.storage.appended_vectors`)."""


def _packed(
    tensors: Mapping[str, npt.NDArray[Any]], strings: Mapping[str, Sequence[str]]
) -> dict[str, npt.NDArray[Any]]:
    packed = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    for name, values in strings.items():
        packed[f"{STRINGS}{name}"] = np.frombuffer(
            json.dumps(list(values), ensure_ascii=False).encode(), dtype=np.uint8
        )
    return packed


def _read(file: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, list[str]]]:
    """Tensors and strings of a file."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    strings: dict[str, list[str]] = {}
    with safe_open(file, framework="np") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a dict
            tensor = opened.get_tensor(name)
            if name.startswith(STRINGS):
                strings[name.removeprefix(STRINGS)] = json.loads(tensor.tobytes())
            else:
                tensors[name] = tensor
    return tensors, strings


class ArtifactStore:
    """Artifacts below one folder. Safe for one publisher and many readers per model."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def publish(
        self,
        card: ModelCard,
        tensors: Mapping[str, npt.NDArray[Any]],
        strings: Mapping[str, Sequence[str]],
        *,
        live: bool = True,
    ) -> str:
        """Writes a version and makes it live, unless it is to wait. Returns the version.

        ``strings`` holds id lists that rows of tensors stand for.
        """
        folder = self._root / card.model
        folder.mkdir(parents=True, exist_ok=True)
        packed = _packed(tensors, strings)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".publishing-") as scratch:
            save_file(packed, Path(scratch) / "model.safetensors")
            card_text = json.dumps(asdict(card), indent=2, sort_keys=True, ensure_ascii=False)
            (Path(scratch) / "card.json").write_text(card_text)
            digest = hashlib.sha256((Path(scratch) / "model.safetensors").read_bytes())
            digest.update(card_text.encode())
            version = digest.hexdigest()[:16]
            target = folder / version
            if not target.exists():
                target.mkdir()
                for name in ("model.safetensors", "card.json"):
                    (Path(scratch) / name).replace(target / name)
        if live:
            self.make_live(card.model, version)
        return version

    def appended(self, model: str) -> Path:
        """Folder of what was added to any version of a model after training."""
        return self._root / model / "appended"

    def versions(self, model: str) -> list[str]:
        """Versions of a model that were published and not removed."""
        return sorted(card.parent.name for card in (self._root / model).glob("[!.]*/card.json"))

    def by_age(self, model: str) -> list[str]:
        """The same, in the order in which they were published."""
        at = {v: (self._root / model / v).stat().st_mtime_ns for v in self.versions(model)}
        return sorted(at, key=at.__getitem__)

    def remove(self, model: str, version: str) -> None:
        """Deletes a version; nobody may use it any more."""
        shutil.rmtree(self._root / model / version)

    def models(self) -> list[str]:
        """Models with a folder, by name."""
        return sorted(folder.name for folder in self._root.glob("*") if folder.is_dir())

    def replace_strings(self, replaced: Callable[[str, int], str]) -> list[str]:
        """Rewrites strings of all versions in place; returns the models that this changed.

        ``replaced`` is given a string and its row. The version keeps its name, because
        replicas start from it; it names the content as it was published.
        """
        changed = set()
        for model, file in self._files():
            tensors, strings = _read(file)
            new = {
                name: [replaced(text, row) for row, text in enumerate(texts)]
                for name, texts in strings.items()
            }
            if new != strings:
                pending = file.with_suffix(f".{os.getpid()}")
                save_file(_packed(tensors, new), pending)
                pending.replace(file)
                changed.add(model)
        return sorted(changed)

    def count_strings(self, wanted: Set[str]) -> dict[str, int]:
        """How many strings of all versions are among the wanted, by model."""
        found: dict[str, int] = {}
        for model, file in self._files():
            _, strings = _read(file)
            count = sum(text in wanted for texts in strings.values() for text in texts)
            if count:
                found[model] = found.get(model, 0) + count
        return found

    def _files(self) -> Iterator[tuple[str, Path]]:
        for file in sorted(self._root.glob("*/*/model.safetensors")):
            if not file.parent.name.startswith("."):
                yield file.parent.parent.name, file

    def make_live(self, model: str, version: str) -> None:
        """Points the model's live record at a published version, atomically.

        The one that was live before is remembered, for :meth:`rollback`.
        """
        self.check_exists(model, version)
        now = self._live(model)
        if now.get("version") != version:
            self._point(model, version, previous=now.get("version"))

    def rollback(self, model: str) -> str:
        """Makes the version before the live one live again, and returns it.

        Done twice by mistake, it does not go forward to what was left: the second time fails.

        Raises:
            NotFoundError: there was none before, or it was removed.
        """
        previous = self._live(model).get("previous")
        if previous is None:
            raise NotFoundError(
                f"model {model} has nothing to roll back to: no version went live since the "
                "first one or a rollback"
            )
        self.go_back_to(model, previous)
        return previous

    def go_back_to(self, model: str, version: str) -> None:
        """Makes a version live instead of one that disappoints, and remembers which one that was.

        Raises:
            NotFoundError: the model has no such version.
        """
        self.check_exists(model, version)
        left = self._live(model).get("version")
        if left != version:
            self._point(model, version, left=left)

    def left_version(self, model: str) -> str | None:
        """The version that the last rollback left, until another goes live; None: there is none."""
        return self._live(model).get("left")

    def previous_version(self, model: str) -> str | None:
        """The version that was live before the live one, for a rollback; None: there is none."""
        return self._live(model).get("previous")

    def _live(self, model: str) -> dict[str, str | None]:
        try:
            found: dict[str, str | None] = json.loads(
                (self._root / model / "live.json").read_text()
            )
        except FileNotFoundError:
            return {}
        return found

    def _point(
        self, model: str, version: str, *, previous: str | None = None, left: str | None = None
    ) -> None:
        record = self._root / model / "live.json"
        pending = record.with_suffix(f".{os.getpid()}")
        pending.write_text(json.dumps({"version": version, "previous": previous, "left": left}))
        pending.replace(record)

    def check_exists(self, model: str, version: str) -> None:
        """Raises NotFoundError when the model has no such version."""
        if not (self._root / model / version / "card.json").is_file():
            raise NotFoundError(f"model {model} has no version {version}")

    def has_live(self, model: str) -> bool:
        """Whether the model was ever trained."""
        return (self._root / model / "live.json").is_file()

    def live_version(self, model: str) -> str:
        """Version that is live.

        Raises:
            NotFoundError: the model was never trained.
        """
        record = self._root / model / "live.json"
        if not self.has_live(model):
            raise NotFoundError(
                f"model {model} has no artifact in {self._root}; run: recmesh train {model}"
            )
        return str(json.loads(record.read_text())["version"])

    def card(self, model: str, version: str) -> ModelCard:
        """The card of a version.

        Raises:
            NotFoundError: there is no such version.
            ArtifactError: the version is damaged or of another format.
        """
        try:
            card = ModelCard(**json.loads((self._root / model / version / "card.json").read_text()))
        except FileNotFoundError as error:
            raise NotFoundError(f"model {model} has no version {version}") from error
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"artifact {model}@{version} is damaged: {error}") from error
        if card.format != FORMAT:
            raise ArtifactError(
                f"artifact {model}@{version} has format {card.format}, this release reads "
                f"{FORMAT}; run: recmesh train {model}"
            )
        return card

    def load(self, model: str, version: str | None = None) -> Artifact:
        """Loads a version, or the live one.

        Raises:
            NotFoundError: there is no such version.
            ArtifactError: the version is damaged or of another format.
        """
        version = version or self.live_version(model)
        card = self.card(model, version)
        try:
            tensors, strings = _read(self._root / model / version / "model.safetensors")
        except FileNotFoundError as error:
            raise NotFoundError(f"model {model} has no version {version}") from error
        except (ValueError, TypeError, SafetensorError) as error:
            raise ArtifactError(f"artifact {model}@{version} is damaged: {error}") from error
        return Artifact(version, card, tensors, strings, self.appended(model))
