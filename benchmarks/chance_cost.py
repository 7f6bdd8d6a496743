"""What chance in filling slots costs, and what it brings: nDCG@10 and coverage of the served pages.

python -m benchmarks.chance_cost [SURFACE]

Of $RECMESH_HOME's data set, as ``recmesh evaluate`` splits it; models are trained before the test
period, and pages come from the orchestrator's own blend, objectives and slate solver under the
default policy, with some chance. Every user gets several pages. Minutes of a core.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from benchmarks.diversity_choices import K, Served, opinions, served
from recmesh.cli.written_data import current_dataset
from recmesh.models.model import Int64
from recmesh.offline.evaluation.bootstrap import Float64, UserBootstrap
from recmesh.offline.evaluation.calibration_fit import calibration_of
from recmesh.offline.evaluation.period import period
from recmesh.offline.evaluation.ranking import hits_of, wanted_counts
from recmesh.offline.evaluation.temporal_split import TemporalSplit
from recmesh.offline.metrics.relevance import ndcg
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.chance import draws
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import select
from recmesh.storage.home import Home

PAGES = 5
"""Of every user."""
TEMPERATURES = (0.005, 0.01, 0.02, 0.05)
MOST_LOSSES = (0.01, 0.02, 0.05, 1.0)


@dataclass(frozen=True)
class Drawn:
    """Pages of all users under rules with chance."""

    quality: Float64
    """Mean nDCG@10 of each user's pages ``[users]``."""
    loss: float
    """Mean utility that chance cost a slot."""
    largest_loss: float
    choices: float
    """Mean of 1 / propensity, harmonic: how many candidates a slot was as good as drawn from."""
    shown: int
    """Distinct items."""


def drawn(one: Served, rules: SlateRules) -> Drawn:
    """Fills pages for all users."""
    wanted = wanted_counts(one.of.wanted)
    quality, losses, chances = [], [], []
    shown: set[int] = set()
    for page in range(PAGES):
        pages: Int64 = np.full((len(one.pool), K), -1, np.int64)
        for user, pool in enumerate(one.pool):
            candidates = SlateCandidates(
                utility=np.where(pool >= 0, one.utility[user], -np.inf).astype(np.float32),
                topics=one.catalog.topics.bits[one.rows[pool]],
                interests=one.interests[user],
            )
            slate = select(candidates, rules, K, draws(f"{user}/{page}", K))
            pages[user, : len(slate.chosen)] = pool[slate.chosen]
            losses.append(slate.chance_loss)
            chances.append(slate.propensity)
        quality.append(ndcg(hits_of(pages, one.of.wanted), wanted))
        shown.update(pages[pages >= 0].tolist())
    lost = np.concatenate(losses)
    return Drawn(
        np.mean(quality, axis=0),
        float(lost.mean()),
        float(lost.max(initial=0.0)),
        float(1 / np.concatenate(chances).mean()),
        len(shown),
    )


def main(surface_name: str = "feed") -> None:
    """Trains once, then prints a line for each temperature and cap."""
    home, policy = Home.from_environment(), Policy.load()
    dataset = current_dataset(home)
    split = TemporalSplit.of(dataset)
    validation = period(dataset, split.validation_start, split.test_start)
    before = opinions(validation, home)
    fitted = {name: calibration_of(scores, validation) for name, scores in before.items()}
    calibrations = {name: found for name, found in fitted.items() if found is not None}
    surface = policy.surfaces[surface_name]
    one = served(validation, before, calibrations, policy, surface)
    resamples = UserBootstrap(len(one.pool), samples=2000, seed=0)
    certain = drawn(one, surface.slate.model_copy(update={"temperature": 0.0}))
    print(f"{surface_name}, {len(one.pool)} users, {PAGES} pages each, validation period")
    print(
        f"{'temperature':>11}{'cap':>7}{'nDCG@10':>9}  {'change, 95% interval':<28}"
        f"{'loss a slot':>11}{'largest':>9}{'choices':>9}{'items shown':>12}"
    )
    print(f"{0:>11}{'':>7}{certain.quality.mean():9.4f}  {'':<28}{'':>29}{certain.shown:12,}")
    for most in MOST_LOSSES:
        for temperature in TEMPERATURES:
            rules = surface.slate.model_copy(
                update={"temperature": temperature, "most_chance_loss": most}
            )
            found = drawn(one, rules)
            change = resamples.difference(found.quality, certain.quality)
            said = f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
            print(
                f"{temperature:>11}{most:>7}{found.quality.mean():9.4f}  {said:<28}"
                f"{found.loss:11.4f}{found.largest_loss:9.4f}{found.choices:9.2f}{found.shown:12,}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:2])
