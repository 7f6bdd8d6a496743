"""The scores that search is made of, each of a whole collection for one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import Stemmer

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp.earlier_queries import EarlierQueries
from recmesh.models.nlp.encoder import Encoder
from recmesh.models.nlp.query_clicks import queries_by_item
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.offline.search.collection import SearchCollection


class Words:
    """BM25 over stemmed words (Robertson & Zaragoza 2009), English."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._tokens = partial(
            bm25s.tokenize,
            stopwords="en",
            stemmer=Stemmer.Stemmer("english"),
            show_progress=False,
            return_ids=False,
        )
        self._index: Any = bm25s.BM25()
        self._index.index(self._tokens(list(texts)), show_progress=False)
        self._size = len(texts)

    def scores(self, query: str) -> Float32:
        """``[texts]``, above 0; NaN for texts without a word of the query."""
        (tokens,) = self._tokens([query])
        known = [token for token in tokens if token in self._index.vocab_dict]
        if not known:
            return np.full(self._size, np.nan, np.float32)
        scores = self._index.get_scores(known)
        return np.where(scores > 0, scores, np.nan).astype(np.float32)


@dataclass(frozen=True)
class Legs:
    """Every leg's scores of one query ``[items]``, and the vectors that feedback needs."""

    query: Float32
    vectors: Float32
    dense: Float32
    words: Float32
    words_and_log: Float32
    """As ``words``, each item's text followed by the earlier queries that led to it."""
    earlier: Float32


class Searcher:
    """All legs over one collection."""

    def __init__(
        self,
        collection: SearchCollection,
        encoder: Encoder,
        cache: Path | None,
        progress: Progress = silent,
    ) -> None:
        texts = [
            *collection.texts,
            *(query.text for query in collection.queries),
            *(text for text, _ in collection.earlier),
        ]
        vectors = encode_cached(encoder, texts, cache, progress)
        n_items, n_queries = len(collection.item_ids), len(collection.queries)
        self.vectors = vectors[:n_items]
        self.queries = vectors[n_items : n_items + n_queries]
        self._texts = [query.text for query in collection.queries]
        self._words = Words(collection.texts)
        rows = {item_id: row for row, item_id in enumerate(collection.item_ids)}
        asked = queries_by_item(collection.earlier)
        self._words_and_log = Words(
            [
                " ".join([text, *asked.get(item_id, ())])
                for item_id, text in zip(collection.item_ids, collection.texts, strict=True)
            ]
        )
        self.earlier = EarlierQueries.of(
            vectors[n_items + n_queries :],
            [
                {rows[item_id]: float(grade) for item_id, grade in grades.items()}
                for _, grades in collection.earlier
            ],
        )

    def legs(self, query: int) -> Legs:
        """Of the collection's query at this position."""
        vector = self.queries[query]
        return Legs(
            vector,
            self.vectors,
            self.vectors @ vector,
            self._words.scores(self._texts[query]),
            self._words_and_log.scores(self._texts[query]),
            self.earlier.scores(vector, len(self.vectors)),
        )
