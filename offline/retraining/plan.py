"""What a retraining is of, whether it was begun before, and which models need it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from recmesh.models.nlp.encoder import Encoder, resolved
from recmesh.models.registry import code_version
from recmesh.offline.retraining.candidate import kept_decisions
from recmesh.offline.retraining.run_record import Key, RunRecord
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import ArtifactError, NotFoundError
from recmesh.storage.home import Home


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be retrained, and how."""

    models: tuple[str, ...]
    until: datetime | None = None
    seed: int = 0
    uri: str = ""
    """A Milvus server; empty: the running mesh's, or the embedded one."""
    dry_run: bool = False
    """Everything but the switch."""
    on_ray: bool = False
    """Whether candidates are trained as tasks on Ray."""

    @property
    def until_iso(self) -> str:
        """As a model card has it."""
        return self.until.isoformat() if self.until else ""


class Plan:
    """An order on one version of the data."""

    def __init__(self, home: Home, order: Order, dataset: Dataset) -> None:
        self._folder = home.retraining
        self._store = ArtifactStore(home.artifacts)
        self._order = order
        self._dataset = dataset

    def live(self) -> dict[str, str]:
        """Live versions of the models; empty where nothing is."""
        return {
            name: self._store.live_version(name) if self._store.has_live(name) else ""
            for name in self._order.models
        }

    def loaded(self, name: str, version: str) -> Artifact | None:
        """An artifact; None when there is none, or it cannot be read and so cannot serve."""
        if not version:
            return None
        try:
            return self._store.load(name, version)
        except (NotFoundError, ArtifactError):
            return None

    def record(self) -> tuple[RunRecord, bool]:
        """The run of this order that was stopped half way, and True; or a new one."""
        found = RunRecord.unfinished(self._folder)
        if found is not None and self._is_this(found):
            return found, True
        return RunRecord(self._folder, self._key(self.live())), False

    def _is_this(self, found: RunRecord) -> bool:
        if set(found.key.live) != set(self._order.models):
            return False
        for name, version in self.live().items():
            trained = found.trained.get(name)
            if version not in (found.key.live[name], trained.version if trained else ""):
                return False  # somebody else has made another version live
        return found.key == self._key(found.key.live)

    def _key(self, live: dict[str, str]) -> Key:
        return Key(
            dataset_version=self._dataset.version,
            until=self._order.until_iso,
            seed=self._order.seed,
            code={n: f"{code_version(n)} {self._encoder(n, live[n])}".strip() for n in live},
            live=live,
        )

    def _encoder(self, name: str, live: str) -> str:
        """The encoder that a candidate would have; empty for models without."""
        if name != EMBEDDER:
            return ""
        decided = kept_decisions(name, self.loaded(name, live))
        return Encoder.choose(resolved(str(decided.get("encoder", "")))).version

    def is_current(self, name: str, live: str) -> bool:
        """Whether training again would give what is live."""
        artifact = self.loaded(name, live)
        if artifact is None:
            return False
        card = artifact.card
        made_of = (card.dataset_version, card.trained_until, card.seed, card.code_version)
        now = (
            self._dataset.version,
            self._order.until_iso,
            self._order.seed,
            code_version(name),
        )
        encoder = card.parameters.get("encoder_version", "")
        return made_of == now and encoder == self._encoder(name, live)
