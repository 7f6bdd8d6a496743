"""Where one installation keeps its state on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The folders below one root. Nothing is created until it is written to."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """``$RECMESH_HOME``, or ``.recmesh`` in the working directory."""
        return cls(Path(os.environ.get("RECMESH_HOME", ".recmesh")).resolve())

    @property
    def dataset(self) -> Path:
        """Ingested tables, owned by ``recmesh ingest``."""
        return self.root / "dataset"

    @property
    def database(self) -> Path:
        """The embedded SQL database; not used where ``database.uri`` names another."""
        return self.root / "recmesh.db"

    @property
    def model_registry(self) -> Path:
        """The models' registry, a database of its own; not used where ``database.uri`` names one.

        The mesh writes :attr:`database` for as long as it runs, and owners write while it does.
        """
        return self.root / "models.db"

    @property
    def deployed(self) -> Path:
        """What owners deployed, a file a model."""
        return self.root / "deployed"

    @property
    def attribution_keys(self) -> Path:
        """Secret keys of attribution tokens; not used where a key file is configured."""
        return self.root / "attribution.keys"

    @property
    def credentials(self) -> Path:
        """Development certificates and tokens' keys of a secure edge."""
        return self.root / "credentials"

    @property
    def artifacts(self) -> Path:
        """Trained models, content-addressed."""
        return self.root / "artifacts"

    @property
    def vectors(self) -> Path:
        """The embedded Milvus' file, and the registry of embedding versions."""
        return self.root / "vectors"

    @property
    def text_vectors(self) -> Path:
        """Vectors of texts already embedded, kept between trainings."""
        return self.root / "text-vectors"

    @property
    def encoders(self) -> Path:
        """Fine-tuned encoders, a Hugging Face folder a version."""
        return self.root / "encoders"

    @property
    def tuning(self) -> Path:
        """Studies of `recmesh tune`, with the scores that their trials rank."""
        return self.root / "tuning"

    @property
    def policies(self) -> Path:
        """Versions of the policy, and which is live."""
        return self.root / "policies"

    @property
    def experiments(self) -> Path:
        """The book of experiments, which orchestrators follow."""
        return self.root / "experiments"

    @property
    def retraining(self) -> Path:
        """Reports of retrainings; while one runs, its data and how far it has come."""
        return self.root / "retraining"

    @property
    def retraining_data(self) -> Path:
        """The data that a retraining holds still while it runs."""
        return self.retraining / "data"

    @property
    def run(self) -> Path:
        """What runs now: process ids, ports, logs."""
        return self.root / "run"
