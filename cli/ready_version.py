"""Whether a version of a model may make pages."""

from __future__ import annotations

from recmesh.models.registry import check_known
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.errors import ConfigurationError


def require_ready(store: ArtifactStore, model: str, version: str) -> None:
    """Checks a version before it counts for anybody.

    Raises:
        NotFoundError: there is no such model or version.
        ConfigurationError: its scores are not calibrated, so that it would shift slates by their
            scale alone; or its version is one of an embedding space.
    """
    check_known(model)
    if model == EMBEDDER:
        raise ConfigurationError(
            f"versions of {model} are tried with their embedding space, which index and model "
            f"change together: an arm's embedding, recmesh embed switch"
        )
    card = store.card(model, version)
    if not card.calibration:
        raise ConfigurationError(
            f"{model}@{version} is not calibrated, and blends weigh calibrated scores; train it "
            f"without --no-validate: recmesh train {model}"
        )
