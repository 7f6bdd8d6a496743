"""What each surface's diversity was chosen on: nDCG@10 against diversity of the served pages.

python -m benchmarks.diversity_choices [SURFACE...]

Of $RECMESH_HOME's data set, as ``recmesh evaluate`` splits it: models are trained before the
validation period, which chooses, and anew before the test, which confirms. Pages come from the
orchestrator's own blend, objectives and slate solver, under the default policy with one thing
changed. Feed and swipe are judged by what was wanted in the period; search by what was opened
after each of its searches, and network by the ties that doctors made in it, both through the whole
pipeline. Minutes of a core, most of them for training.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.asked_cases import new_ties, searches
from benchmarks.asked_pages import AskedPages, mesh_of
from recmesh.cli.written_data import current_dataset
from recmesh.models.model import Float32, Int64, TrainedModel, silent
from recmesh.models.registry import MODELS
from recmesh.offline.evaluation.calibration_fit import calibration_of
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.item_properties import item_likeness
from recmesh.offline.evaluation.period import Period, period
from recmesh.offline.evaluation.ranking import hits_of, top_items, wanted_counts
from recmesh.offline.evaluation.served_blend import ServedBlend, blended
from recmesh.offline.evaluation.served_scores import served_scores
from recmesh.offline.evaluation.temporal_split import EarlierDataset, TemporalSplit
from recmesh.offline.metrics.relevance import ndcg
from recmesh.orchestrator.blend import Calibration, utility
from recmesh.orchestrator.catalog import Catalog, item_catalog
from recmesh.orchestrator.objectives.objective_input import ObjectiveInput
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from recmesh.orchestrator.policy import Policy, SurfacePolicy
from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.request_columns import interests
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import select
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home

K = 10
POOL = 200
INTERESTS = (0.0, 0.02, 0.05, 0.1)
CAPS = (3, 4, 6)
STRENGTHS = (0.01, 0.02, 0.05, 0.1)
KEPT = 0.98
"""Share of the best nDCG that a choice keeps."""
BLENDED = ("feed", "swipe")
ASKED = {"search": searches, "network": new_ties}
"""Where requests differ by more than their user, and what is asked there."""

Judge = Callable[[SlateRules], tuple[float, float]]
"""Mean nDCG and diversity of a period's pages under slate rules."""


@dataclass(frozen=True)
class Choice:
    """Slate rules with a name."""

    name: str
    rules: SlateRules


def choices(interests: Sequence[float]) -> Iterator[Choice]:
    """Each way to be diverse at several strengths, alone, capped, and with regard to interests."""
    for weight in interests:
        ways: dict[str, dict[str, object]] = {"no diversity": {}}
        ways |= {f"cap {cap}": {"max_per_topic": cap} for cap in CAPS}
        for diversity in ("mmr", "dpp"):
            for strength in STRENGTHS:
                rules = {"diversity": diversity, "diversity_strength": strength}
                ways[f"{diversity} {strength}"] = rules
                ways[f"{diversity} {strength}, cap {CAPS[-1]}"] = rules | {
                    "max_per_topic": CAPS[-1]
                }
        for way, changed in ways.items():
            name = f"{way}, interests {weight}" if weight else way
            yield Choice(name, SlateRules.model_validate({"calibration_weight": weight, **changed}))


@dataclass(frozen=True)
class Served:
    """One surface's candidates of every user of a period."""

    of: Period
    catalog: Catalog
    pool: Int64
    """The 200 best catalogue positions of every user by utility ``[users, 200]``; -1: none."""
    utility: Float32
    """Of the pool."""
    rows: Int64
    """Catalog rows of the catalogue's items ``[catalogue]``."""
    interests: list[Float32 | None]

    def pages(self, rules: SlateRules) -> Int64:
        """Catalogue positions ``[users, 10]``."""
        pages = np.full((len(self.pool), K), -1, np.int64)
        for user, pool in enumerate(self.pool):
            candidates = SlateCandidates(
                utility=np.where(pool >= 0, self.utility[user], -np.inf).astype(np.float32),
                topics=self.catalog.topics.bits[self.rows[pool]],
                interests=self.interests[user],
            )
            chosen = select(candidates, rules, K).chosen
            pages[user, : len(chosen)] = pool[chosen]
        return pages

    def judged(self, rules: SlateRules) -> tuple[float, float]:
        """Mean nDCG of the pages against what their users wanted, and mean diversity."""
        pages = self.pages(rules)
        relevant = ndcg(hits_of(pages, self.of.wanted), wanted_counts(self.of.wanted))
        diverse = item_likeness(self.of).diversity(pages)
        return float(relevant.mean()), float(np.nanmean(diverse))


def served(
    of: Period,
    raw: dict[str, Float32],
    calibrations: dict[str, Calibration],
    policy: Policy,
    surface: SurfacePolicy,
) -> Served:
    """What the surface's blend makes of the models' opinions."""
    blend = ServedBlend(dict(surface.model_weights), policy.popularity_half_life_days, calibrations)
    relevant = blended(raw, of, blend)
    catalog = item_catalog(of.known, policy.popularity_half_life_days)
    rows = catalog.rows(of.catalogue)
    weights = surface.objective_weights
    total = sum(weights.values())
    scores = np.empty_like(relevant)
    for user in range(len(scores)):
        seen = ObjectiveInput(
            catalog=catalog,
            rows=rows,
            relevance=relevant[user],
            affinity=np.zeros_like(relevant[user]),  # these surfaces do not weigh it
            campaign_worth=np.zeros_like(relevant[user]),
            now_unix_s=of.now_unix_s,
            half_life_days=surface.half_life_days,
        )
        columns = [OBJECTIVES[name](seen) for name in weights]
        scores[user] = utility(columns, [w / total for w in weights.values()])
    pool = top_items(scores, of.seen, POOL)
    store = UserStore(of.known)
    return Served(
        of,
        catalog,
        pool,
        np.take_along_axis(scores, np.maximum(pool, 0), axis=1),
        rows.astype(np.int64),
        [interests(catalog, store.get(user)) for user in of.users],
    )


def trained(name: str, known: EarlierDataset, home: Home) -> TrainedModel:
    """On what lies before the data set's moment."""
    print(f"training {name} until {known.moment:%Y-%m-%d}", file=sys.stderr, flush=True)
    return fit(
        name, known, until=known.moment, seed=0, text_vectors=home.text_vectors, progress=silent
    )


def show(
    name: str, validation: Judge, test: Judge, among: Sequence[Choice], today: SlateRules
) -> None:
    """A line a choice; the most diverse within reach of the best nDCG is marked."""
    rows = []
    for choice in (*among, Choice("the default policy", today)):
        figures = [*validation(choice.rules), *test(choice.rules)]
        rows.append((choice.name, figures))
    best = max(figures[0] for _, figures in rows)
    within = [row for row in rows if row[1][0] >= KEPT * best]
    chosen = max(within, key=lambda row: row[1][1])
    print(f"\n{name:32}{'validation':>22}{'test':>22}")
    print(f"{'':32}" + f"{'nDCG@10':>11}{'diversity':>11}" * 2)
    for row in rows:
        mark = " <- most diverse at 98% of the best nDCG@10" if row is chosen else ""
        print(f"{row[0]:32}" + "".join(f"{figure:11.4f}" for figure in row[1]) + mark, flush=True)


def blended_surfaces(
    names: Sequence[str], dataset: Dataset, split: TemporalSplit, policy: Policy, home: Home
) -> None:
    """Prints the tables of surfaces that are one page a user."""
    validation = period(dataset, split.validation_start, split.test_start)
    test = period(dataset, split.test_start, split.end)
    before, after = (
        {name: served_scores(serving_model(trained(name, of.known, home)), of) for name in MODELS}
        for of in (validation, test)
    )
    fitted = {name: calibration_of(scores, validation) for name, scores in before.items()}
    calibrations = {name: found for name, found in fitted.items() if found is not None}
    for name in names:
        surface = policy.surfaces[name]
        show(
            name,
            served(validation, before, calibrations, policy, surface).judged,
            served(test, after, calibrations, policy, surface).judged,
            list(choices(INTERESTS)),
            surface.slate,
        )


async def asked_surfaces(
    names: Sequence[str], dataset: Dataset, split: TemporalSplit, policy: Policy, home: Home
) -> None:
    """Prints the tables of surfaces that are asked something, or for doctors."""
    today = {name: policy.surfaces[name].slate for name in names}
    pages: dict[str, list[AskedPages]] = {name: [] for name in names}
    for start, end in ((split.validation_start, split.test_start), (split.test_start, split.end)):
        known = EarlierDataset.of(dataset, start)
        models = [trained(name, known, home) for name in ("nlp", "network")]
        mesh, clients = await mesh_of(known, *models, policy=policy)
        for name in names:
            cases = ASKED[name](dataset, start, end)
            print(f"{name}: {len(cases)} requests from {start:%Y-%m-%d}", file=sys.stderr)
            pages[name].append(await AskedPages.of(mesh, name, cases))
        for client in clients:
            await client.close()
    for name in names:
        validation, test = pages[name]
        # Neither surface's slate regards interests: the query, or doctors, are not the topics read.
        show(name, validation.judged, test.judged, list(choices((0.0,))), today[name])


def main() -> None:
    """Trains twice, then prints a table a surface."""
    wanted = sys.argv[1:] or [*BLENDED, *ASKED]
    if unknown := set(wanted) - {*BLENDED, *ASKED}:
        raise SystemExit(f"no surface {min(unknown)}; there are {', '.join((*BLENDED, *ASKED))}")
    home, policy = Home.from_environment(), Policy.load()
    dataset = current_dataset(home)
    split = TemporalSplit.of(dataset)
    if one_each := [name for name in wanted if name in BLENDED]:
        blended_surfaces(one_each, dataset, split, policy, home)
    if asked := [name for name in wanted if name in ASKED]:
        asyncio.run(asked_surfaces(asked, dataset, split, policy, home))


if __name__ == "__main__":
    main()
