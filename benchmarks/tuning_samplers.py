"""Which of Optuna's samplers finds the best front: python -m benchmarks.tuning_samplers

On the ingested data set of $RECMESH_HOME, the feed, nDCG and diversity, validation period. Prints
the hypervolume of what was tried after so many trials and after so many seconds, mean of the
seeds. All start at the same points. Seconds want a machine without other work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recmesh.cli.written_data import current_dataset
from recmesh.offline.tuning.front import hypervolume
from recmesh.offline.tuning.parameters import Parameters
from recmesh.offline.tuning.rivals import fixed_rivals
from recmesh.offline.tuning.study import SAMPLERS, finished, open_study, run_trials, tried
from recmesh.offline.tuning.trial import TrialRun
from recmesh.offline.tuning.tune import Settings, Tuning
from recmesh.orchestrator.policy import Policy
from recmesh.storage.home import Home

TRIALS = (50, 100, 200, 400, 1000)
SECONDS = (5, 10, 20, 40)
NOT_REACHED = float("nan")


def searched(
    run: TrialRun, sampler: str, start: Sequence[Parameters], seconds: float, seed: int
) -> list[float]:
    """Hypervolume after each of ``TRIALS`` and of ``SECONDS``, and the number of trials."""
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(Path(folder) / "journal", sampler, run.metrics, sampler, seed)
        begun_s = time.time()
        run_trials(
            study,
            run,
            max(TRIALS),
            start,
            stopped=lambda: time.time() - begun_s >= seconds,
        )
        values = tried(study, run).values
        ends = [trial.datetime_complete for trial in finished(study)]
        took_s = np.array([end.timestamp() - begun_s for end in ends if end is not None])
    after = [hypervolume(values[:n]) if n <= len(values) else NOT_REACHED for n in TRIALS]
    after += [hypervolume(values[took_s <= s]) if s <= seconds else NOT_REACHED for s in SECONDS]
    return [*after, float(len(values))]


def main() -> None:
    """Prints a line a sampler."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=max(SECONDS), help="for each search")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--scores-seed", type=int, default=0, help="of the tuning that is kept")
    arguments = parser.parse_args()
    home = Home.from_environment()
    settings = Settings(seed=arguments.scores_seed)
    tuning = Tuning(current_dataset(home), Policy.load(), settings, home.tuning, home.text_vectors)
    run = tuning.trial_run()
    start = fixed_rivals(run).starts
    users, width = run.candidates.rows.shape
    print(f"{users} users x {width} candidates, {len(start)} starting points")
    heads = [f"{n} trials" for n in TRIALS] + [f"{s} s" for s in SECONDS] + ["trials"]
    print(f"{'':8}" + "".join(f"{head:>12}" for head in heads))
    for sampler in arguments.samplers:
        found = [
            searched(run, sampler, start, arguments.seconds, seed)
            for seed in range(arguments.seeds)
        ]
        *volumes, trials = np.mean(found, axis=0)
        cells = "".join("           -" if np.isnan(v) else f"{v:12.4f}" for v in volumes)
        print(f"{sampler:8}{cells}{trials:12.0f}", flush=True)


if __name__ == "__main__":
    main()
