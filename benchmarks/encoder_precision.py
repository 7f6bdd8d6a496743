"""What precision costs search: every arithmetic, and documents and queries in different ones.

python -m benchmarks.encoder_precision NFCORPUS [ENCODER …]

NFCorpus' dev queries, by cosine alone. Encoders are names or folders; those that the packages hold
come first. The reference is all-MiniLM-L6-v2 in float32; gains over it are paired, query by query.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.encoder_speed import Way, ways
from recmesh.models.model import Float32
from recmesh.offline.evaluation.bootstrap import UserBootstrap
from recmesh.offline.evaluation.report import shown
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.evaluate import Figures, best, figures

SPLIT, DEEPEST, SAMPLES, SEED = "dev", 100, 1000, 0


def main() -> None:
    """Prints a line for each way to make the documents' and the queries' vectors."""
    collection = SearchCollection.load(Path(sys.argv[1]), SPLIT)
    resampled = UserBootstrap(len(collection.queries), SAMPLES, SEED)
    made: dict[str, tuple[Way, Float32, Float32]] = {}
    reference: Figures | None = None

    def judge(name: str, documents: Float32, queries: Float32) -> None:
        nonlocal reference
        found = figures(collection, [best(row, DEEPEST) for row in queries @ documents.T])
        reference = reference or found
        first = next(iter(made.values()))[1]
        cosine = (documents * first).sum(axis=1)
        print(
            f"{name:66}{shown(resampled.mean(found.ndcg)):>22}"
            f"{shown(resampled.difference(found.ndcg, reference.ndcg), True):>26}"
            f"{cosine.mean():9.4f}{cosine.min():9.4f}",
            flush=True,
        )

    print(f"{'documents / queries':66}{'nDCG@10':>22}{'gain':>26}{'cosine':>9}{'least':>9}")
    for way in ways(sys.argv[2:]):
        documents = way.encoder.encode(collection.texts)
        queries = way.encoder.encode([query.text for query in collection.queries])
        made[way.name] = way, documents, queries
        judge(way.name, documents, queries)
        for other, (earlier, others, asked) in list(made.items())[:-1]:
            # Only the same weights make one space.
            if earlier.encoder.version == way.encoder.version:
                judge(f"{other} / {way.name}", others, queries)
                judge(f"{way.name} / {other}", documents, asked)


if __name__ == "__main__":
    main()
