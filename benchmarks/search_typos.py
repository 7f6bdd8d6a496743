"""What correcting the spelling of queries is worth: python benchmarks/search_typos.py NFCORPUS

Every dev query gets one typing error in its longest word: a letter left out, doubled, replaced or
swapped with the next, by a seed. Prints nDCG@10 and recall@100 of search for the queries as they
were, with the error, and with the error corrected.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from recmesh.models.nlp.encoder import Encoder
from recmesh.models.nlp.spelling import Spelling, vocabulary
from recmesh.offline.evaluation.bootstrap import UserBootstrap
from recmesh.offline.evaluation.report import shown
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.evaluate import DEEPEST, Figures, best, figures
from recmesh.offline.search.legs import Searcher
from recmesh.offline.search.systems import with_log
from recmesh.storage.home import Home

SEED = 0
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def mistyped(query: str, generator: np.random.Generator) -> str:
    """The query with one error in its longest word."""
    words = query.split()
    longest = max(range(len(words)), key=lambda position: len(words[position]))
    word = words[longest]
    at = int(generator.integers(1, max(len(word) - 1, 2)))
    kind = generator.integers(4)
    if kind == 0:
        word = word[:at] + word[at + 1 :]
    elif kind == 1:
        word = word[:at] + word[at - 1 : at] + word[at:]
    elif kind == 2:
        word = word[:at] + str(generator.choice(list(LETTERS))) + word[at + 1 :]
    else:
        word = word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]
    return " ".join([*words[:longest], word, *words[longest + 1 :]])


def searched(collection: SearchCollection, texts: list[str]) -> Figures:
    """Figures of search, its queries replaced by these texts."""
    queries = [
        replace(query, text=text) for query, text in zip(collection.queries, texts, strict=True)
    ]
    asked = replace(collection, queries=queries)
    searcher = Searcher(asked, Encoder.choose(), Home.from_environment().text_vectors)
    legs = (searcher.legs(row) for row in range(len(queries)))
    return figures(asked, [best(with_log(one), DEEPEST) for one in legs])


def main(folder: Path) -> None:
    """Prints a line a way."""
    collection = SearchCollection.load(folder, "dev")
    generator = np.random.default_rng(SEED)
    typed = [query.text for query in collection.queries]
    wrong = [mistyped(text, generator) for text in typed]
    spelling = Spelling(*vocabulary([*collection.texts, *(text for text, _ in collection.earlier)]))
    right = [spelling.corrected(text) for text in wrong]
    restored = sum(
        one.casefold() == other.casefold() for one, other in zip(typed, right, strict=True)
    )
    spoiled = sum(spelling.corrected(text) != text for text in typed)
    print(
        f"{len(typed)} queries; {restored} restored to the letter; {spoiled} changed without error"
    )
    resampled = UserBootstrap(len(typed), 1000, SEED)
    found = {
        "as they were": searched(collection, typed),
        "with an error": searched(collection, wrong),
        "corrected": searched(collection, right),
        "as they were, corrected": searched(collection, [spelling.corrected(t) for t in typed]),
    }
    for name, values in found.items():
        print(
            f"{name:24} nDCG@10 {shown(resampled.mean(values.ndcg))}  "
            f"recall@100 {shown(resampled.mean(values.recall))}"
        )
    gain = resampled.difference(found["corrected"].ndcg, found["with an error"].ndcg)
    print(f"corrected minus with an error, paired: {shown(gain, True)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
