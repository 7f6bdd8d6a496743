"""What search is worth on judged queries, against its own parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import R, nDCG

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp.encoder import Encoder
from recmesh.offline.evaluation.bootstrap import Float64, UserBootstrap
from recmesh.offline.search import systems
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.legs import Legs, Searcher
from recmesh.offline.search.report import Comparison, SearchReport, System
from recmesh.storage.errors import NotFoundError

NDCG, RECALL = nDCG @ 10, R @ 100
DEEPEST = 100

BASELINES: dict[str, Callable[[Legs], Float32]] = {
    "BM25": systems.words,
    "encoder": systems.dense,
    "reciprocal rank fusion": systems.reciprocal_ranks,
    "sum of z-scores": systems.z_scores,
}
REFERENCE = "sum of z-scores"
WITHOUT_LOG, WITH_LOG = "ours, no query log", "ours"
SERVED = "a mesh"

Ask = Callable[[str, int], Sequence[str]]
"""Item ids that a running mesh gives for a query, best first, at most so many."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One system's figures by query ``[queries]``."""

    ndcg: Float64
    recall: Float64


def figures(collection: SearchCollection, rankings: Sequence[Sequence[int]]) -> Figures:
    """nDCG@10 and recall@100 by ir-measures.

    Args:
        collection: items and judged queries.
        rankings: positions of items for each query, best first.
    """
    run = [
        # Places for scores: ties stay as they are ranked here.
        ir_measures.ScoredDoc(query.query_id, collection.item_ids[row], float(-place))
        for query, rows in zip(collection.queries, rankings, strict=True)
        for place, row in enumerate(rows)
    ]
    qrels = [
        ir_measures.Qrel(query.query_id, item_id, grade)
        for query, grades in zip(collection.queries, collection.grades, strict=True)
        for item_id, grade in grades.items()
    ]
    rows = {query.query_id: row for row, query in enumerate(collection.queries)}
    values = {measure: np.zeros(len(rows)) for measure in (NDCG, RECALL)}
    for found in ir_measures.iter_calc([NDCG, RECALL], qrels, run):
        values[found.measure][rows[found.query_id]] = found.value
    return Figures(values[NDCG], values[RECALL])


def best(scores: Float32, n: int) -> Sequence[int]:
    """Positions of the best ``n`` found, best first; the earlier of equals first."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:n]
    return [int(row) for row in order if not np.isnan(scores[row])]


def evaluate_search(
    folder: Path,
    split: str,
    encoder: Encoder,
    cache: Path | None,
    *,
    seed: int = 0,
    bootstrap_samples: int = 1000,
    served: Ask | None = None,
    progress: Progress = silent,
) -> SearchReport:
    """Judges search on the queries of ``split``.

    Args:
        folder: NFCorpus as published, or a converted data set.
        split: see :meth:`SearchCollection.load`.
        encoder: makes the vectors.
        cache: folder that keeps vectors of texts between runs.
        seed: of the bootstrap.
        bootstrap_samples: resamples of the queries.
        served: a running mesh with these items in its catalog, judged beside the others.
        progress: told what goes on.

    Raises:
        NotFoundError: no such folder or split.
        DataError: a file is damaged.
    """
    started = time.monotonic()
    collection = SearchCollection.load(folder, split)
    searcher = Searcher(collection, encoder, cache, progress)
    ranked = {**BASELINES, WITHOUT_LOG: systems.without_log}
    if collection.earlier:
        ranked[WITH_LOG] = systems.with_log
    rankings: dict[str, list[Sequence[int]]] = {name: [] for name in ranked}
    took_s: list[float] = []
    for position in range(len(collection.queries)):
        begun = time.perf_counter()
        legs = searcher.legs(position)
        legs_s = time.perf_counter() - begun
        for name, system in ranked.items():
            begun = time.perf_counter()
            rankings[name].append(best(system(legs), DEEPEST))
            system_s = time.perf_counter() - begun
        took_s.append(legs_s + system_s)
        progress(position + 1, len(collection.queries), "queries searched")
    if served is not None:
        rows = {item_id: row for row, item_id in enumerate(collection.item_ids)}
        rankings[SERVED] = []
        for position, query in enumerate(collection.queries):
            ids = served(query.text, DEEPEST)
            rankings[SERVED].append([rows[item_id] for item_id in ids if item_id in rows])
            progress(position + 1, len(collection.queries), "queries asked of the mesh")
        if not any(rankings[SERVED]):
            raise NotFoundError(f"the mesh has no item of {folder}; ingest and index it first")
    found = {name: figures(collection, ranking) for name, ranking in rankings.items()}
    resampled = UserBootstrap(len(collection.queries), bootstrap_samples, seed)
    reference = found[REFERENCE]
    return SearchReport(
        data=folder.resolve().name,
        split=split,
        encoder=encoder.version,
        items=len(collection.item_ids),
        queries=len(collection.queries),
        earlier_queries=len(collection.earlier),
        seed=seed,
        bootstrap_samples=bootstrap_samples,
        systems=[
            System(name, resampled.mean(values.ndcg), resampled.mean(values.recall))
            for name, values in found.items()
        ],
        comparisons=[
            Comparison(
                name,
                REFERENCE,
                resampled.difference(found[name].ndcg, reference.ndcg),
                resampled.difference(found[name].recall, reference.recall),
            )
            for name in (WITHOUT_LOG, WITH_LOG, SERVED)
            if name in found
        ],
        milliseconds_per_query=float(np.median(took_s) * 1000),
        seconds=time.monotonic() - started,
    )
