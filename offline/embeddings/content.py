"""Which part of an item's text its vector should hold, judged by searches."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

from recmesh.models.model import Progress, silent
from recmesh.models.nlp.content_embedding import ContentEmbedding
from recmesh.models.nlp.encoder import Encoder
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.offline.embeddings.ablation import Ablation
from recmesh.offline.evaluation.bootstrap import Float64
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.evaluate import DEEPEST, best, figures
from recmesh.offline.search.legs import Words
from recmesh.orchestrator.search_fusion import fuse


def compare_content(
    folder: Path,
    split: str,
    encoder: Encoder,
    cache: Path | None,
    progress: Progress = silent,
) -> Ablation:
    """Every :class:`ContentEmbedding` alone and fused with words; the served one first.

    Raises:
        NotFoundError: no such folder or split.
        DataError: a file is damaged.
    """
    collection = SearchCollection.load(folder, split)
    queries = encode_cached(encoder, [q.text for q in collection.queries], cache)
    index = Words(collection.texts)
    words = [index.scores(query.text) for query in collection.queries]
    ways = [ContentEmbedding.OPENING, *(w for w in ContentEmbedding if w != "opening")]
    values: dict[str, dict[str, Float64]] = {}
    for way in ways:
        texts = [
            way.texts(title, abstract)
            for title, abstract in zip(collection.titles, collection.abstracts, strict=True)
        ]
        starts = [0, *accumulate(len(of_item) for of_item in texts)][:-1]
        flat = [text for of_item in texts for text in of_item]
        vectors = encode_cached(encoder, flat, cache, progress)
        dense = way.cosines(queries, vectors, starts)
        alone = figures(collection, [best(scores, DEEPEST) for scores in dense])
        fused = figures(
            collection,
            [best(fuse(a, b), DEEPEST) for a, b in zip(dense, words, strict=True)],
        )
        values[f"{way.value} ({len(flat):,} texts)"] = {
            "nDCG@10": alone.ndcg,
            "fused with words": fused.ndcg,
        }
    summary = (
        f"{len(collection.queries):,} queries of {folder.resolve().name}, {split}; "
        f"{len(collection.item_ids):,} items; encoder {encoder.version}."
    )
    return Ablation.of(summary, values)
