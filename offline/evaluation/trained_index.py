"""The items of a data set under exact search, by a language model that was just trained."""

from __future__ import annotations

import numpy as np

from recmesh.models.model import Float32, TrainedModel
from recmesh.models.nlp.query_log import asked
from recmesh.models.nlp.training import item_texts
from recmesh.storage.artifacts import Artifact
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.exact_index import ExactIndex
from recmesh.storage.index_rows import item_rows
from recmesh.storage.vector_schema import ITEM_INDEX


async def trained_index(known: Dataset, nlp: TrainedModel) -> tuple[ExactIndex, EmbeddingVersion]:
    """An index of the items, and the version that its vectors have.

    Args:
        known: whose items were embedded when ``nlp`` was trained.
        nlp: the language model.
    """
    vectors: Float32 = nlp.tensors["item_vectors"].astype(np.float32)
    embedding = EmbeddingVersion(
        version=str(nlp.card.parameters["embedding_version"]),
        collection="items",
        dim=vectors.shape[1],
        count=len(vectors),
    )
    words = asked(Artifact("unpublished", nlp.card, nlp.tensors, nlp.strings))
    rows = item_rows(
        known.items, known.campaigns, vectors, item_texts(known), embedding.version, words
    )
    index = ExactIndex()
    await index.create(embedding.collection, ITEM_INDEX, embedding.dim)
    await index.upsert(embedding.collection, rows)
    return index, embedding
