"""What search's settings were chosen on: each varied around the default, on NFCorpus' dev split.

python benchmarks/search_choices.py DIR

Prints nDCG@10 on the half of the dev queries that chose (dev-tune) and on the half that confirmed
(dev-validate). Test queries are not read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from recmesh.models.nlp.earlier_queries import NEIGHBOURS, SHARPNESS
from recmesh.models.nlp.encoder import Encoder
from recmesh.offline.search.collection import SearchCollection
from recmesh.offline.search.evaluate import DEEPEST, best, figures
from recmesh.offline.search.legs import Legs, Searcher
from recmesh.offline.search.systems import with_log, without_log
from recmesh.orchestrator.relevance_feedback import FeedbackSettings
from recmesh.orchestrator.search_fusion import FusionSettings
from recmesh.storage.home import Home

HALVES = ("dev-tune", "dev-validate")


@dataclass(frozen=True)
class Choice:
    """One setting that differs from the default."""

    name: str = "as served"
    fusion: FusionSettings = field(default_factory=FusionSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    neighbours: int = NEIGHBOURS
    sharpness: float = SHARPNESS
    log_as_words: bool = True
    log_as_leg: bool = True

    def rank(self, searcher: Searcher, legs: Legs) -> list[int]:
        """The best items of a query."""
        if not self.log_as_leg and not self.log_as_words:
            return list(best(without_log(legs, self.fusion, self.feedback), DEEPEST))
        fusion = self.fusion if self.log_as_leg else replace(self.fusion, earlier_weight=0.0)
        earlier = legs.earlier
        if (self.neighbours, self.sharpness) != (NEIGHBOURS, SHARPNESS):
            earlier = searcher.earlier.scores(
                legs.query, len(legs.dense), self.neighbours, self.sharpness
            )
        words = legs.words_and_log if self.log_as_words else legs.words
        changed = replace(legs, words_and_log=words, earlier=earlier)
        return list(best(with_log(changed, fusion, self.feedback), DEEPEST))


def choices() -> Iterator[Choice]:
    """The default, then every setting on its own."""
    yield Choice()
    yield Choice("no query log", log_as_words=False, log_as_leg=False)
    yield Choice("log only as words", log_as_leg=False)
    yield Choice("log only as a leg", log_as_words=False)
    yield Choice("no feedback", feedback=FeedbackSettings(items=0))
    for items in (3, 5, 20):
        yield Choice(f"feedback of {items} items", feedback=FeedbackSettings(items=items))
    for weight in (0.5, 2.0):
        yield Choice(f"feedback weight {weight}", feedback=FeedbackSettings(weight=weight))
    for sharpness in (0.0, 2.0, 8.0):
        yield Choice(
            f"feedback sharpness {sharpness}", feedback=FeedbackSettings(sharpness=sharpness)
        )
    for share in (0.3, 0.4, 0.6, 0.7):
        yield Choice(f"words weight {share}", fusion=FusionSettings(words_weight=share))
    for weight in (0.25, 0.75, 1.0):
        yield Choice(f"earlier weight {weight}", fusion=FusionSettings(earlier_weight=weight))
    for neighbours in (10, 30, 1000):
        yield Choice(f"{neighbours} earlier queries", neighbours=neighbours)
    for power in (2.0, 4.0, 16.0):
        yield Choice(f"earlier queries' sharpness {power}", sharpness=power)


def main(folder: Path) -> None:
    """Prints a line a choice."""
    encoder, cache = Encoder.choose(), Home.from_environment().text_vectors
    collections = [SearchCollection.load(folder, half) for half in HALVES]
    searchers = [Searcher(collection, encoder, cache) for collection in collections]
    asked = [
        [searcher.legs(n) for n in range(len(collection.queries))]
        for collection, searcher in zip(collections, searchers, strict=True)
    ]
    print(f"{'':32}{HALVES[0]:>12}{HALVES[1]:>14}")
    for choice in choices():
        means = [
            figures(collection, [choice.rank(searcher, one) for one in legs]).ndcg.mean()
            for collection, searcher, legs in zip(collections, searchers, asked, strict=True)
        ]
        print(f"{choice.name:32}{means[0]:12.4f}{means[1]:14.4f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
