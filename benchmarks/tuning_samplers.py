"""Which of Optuna's samplers finds the best front: python benchmarks/tuning_samplers.py

On the ingested data set of $RECMESH_HOME, the feed, nDCG and diversity, validation period. Prints
the hypervolume of what was tried after so many trials, mean of the seeds, and seconds a trial;
GP's time grows with the cube of the trials, so it stops early.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from recmesh.offline.tuning.front import hypervolume
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.rivals import fixed_rivals
from recmesh.offline.tuning.study import SAMPLERS, open_study, run_trials, tried
from recmesh.offline.tuning.trial import TrialRun
from recmesh.offline.tuning.tune import Settings, Tuning
from recmesh.orchestrator.policy import Policy
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home

AFTER = (50, 100, 200, 400, 1000, 2000)
MOST_OF_GP = 200


def searched(run: TrialRun, sampler: str, trials: int, seed: int) -> tuple[list[float], float]:
    """Hypervolume after each of ``AFTER`` trials, and seconds in all."""
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(Path(folder) / "journal", sampler, run.metrics, sampler, seed)
        start = fixed_rivals(run).starts
        begun = time.perf_counter()
        run_trials(study, run, trials, start)
        took_s = time.perf_counter() - begun
        values = tried(study, run).values
    return [hypervolume(values[:n]) for n in AFTER if n <= trials], took_s


def main() -> None:
    """Prints a line a sampler."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=max(AFTER))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--scores-seed", type=int, default=0, help="of the tuning that is kept")
    arguments = parser.parse_args()
    home = Home.from_environment()
    settings = Settings(seed=arguments.scores_seed)
    tuning = Tuning(
        Dataset.open(home.dataset), Policy.load(), settings, home.tuning, home.text_vectors
    )
    run = tuning.trial_run()
    begun = time.perf_counter()
    for _ in range(20):
        run(Parameters.of(run.surface, run.candidates.scorers))
    trial_ms = 50 * (time.perf_counter() - begun)
    users, width = run.candidates.rows.shape
    print(
        f"{users} users x {width} candidates; a trial without its sampler takes {trial_ms:.1f} ms"
    )
    print(f"{'trials':10}" + "".join(f"{n:>9}" for n in AFTER) + f"{'ms/trial':>10}")
    for sampler in arguments.samplers:
        trials = min(arguments.trials, MOST_OF_GP) if sampler == "gp" else arguments.trials
        found = [searched(run, sampler, trials, seed) for seed in range(arguments.seeds)]
        volumes = np.mean([volume for volume, _ in found], axis=0)
        took_ms = 1e3 * np.mean([took_s for _, took_s in found]) / trials
        cells = "".join(f"{volume:9.4f}" for volume in volumes)
        print(f"{sampler:10}{cells:<{9 * len(AFTER)}}{took_ms:10.1f}", flush=True)


if __name__ == "__main__":
    main()
