"""The items' vectors in one embedding version, row by row of the data set."""

from __future__ import annotations

import numpy as np

from recmesh.storage.appended_vectors import AppendedVectors, Float32
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import ArtifactError, DataError


def item_vectors(store: ArtifactStore, artifact: Artifact, dataset: Dataset) -> Float32:
    """``[len(dataset.items), dim]``: the artifact's, or those made after its training.

    Raises:
        DataError: there are items that have neither.
    """
    version = str(artifact.card.parameters["embedding_version"])
    appended = AppendedVectors(store.appended("nlp"), version).news()
    try:
        vectors = artifact.tensors["item_vectors"].astype(np.float32)
        rows = {item_id: row for row, item_id in enumerate(artifact.strings["item_ids"])}
    except KeyError as error:
        raise ArtifactError(f"artifact nlp@{artifact.version} lacks {error}") from error
    item_ids: list[str] = dataset.items["item_id"].to_pylist()
    missing = sum(item_id not in rows and item_id not in appended for item_id in item_ids)
    if missing:
        raise DataError(
            f"{missing} of {len(item_ids)} items have no vector in nlp@{artifact.version}; "
            "run: recmesh train nlp"
        )
    known = [vectors[rows[i]] if i not in appended else appended[i] for i in item_ids]
    return np.stack(known) if known else vectors[:0]
