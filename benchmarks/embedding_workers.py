"""Texts embedded a second: in one process on all CPUs, and by Ray workers of one CPU each.

python -m benchmarks.embedding_workers [WORKERS]

The arrangements take turns, so that what else the machine does bears on all of them alike; the
best round counts. Starting workers is not part of it and is printed apart.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from recmesh.deployments.encoder_pool import encoder_pool
from recmesh.models.nlp.encoder import Encoder, resolved
from recmesh.storage.home import Home

PARTS, PART, ROUNDS = 16, 16, 3
WORDS = ["randomised", "trial", "of", "statin", "therapy", "in", "chronic", "heart", "failure"]


def main() -> None:
    """Prints a line for each arrangement."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    rng = np.random.default_rng(0)
    # As long as titles with abstracts: they fill the encoder's 128 tokens.
    parts = [[" ".join(rng.choice(WORDS, 150)) for _ in range(PART)] for _ in range(PARTS)]
    choice = resolved()
    encoder = Encoder.choose(choice)
    encoder.encode(parts[0])
    best = {"one process, all CPUs": 0.0, "1 worker": 0.0, f"{workers} workers": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            exact = [encoder.encode(part) for part in parts]
            took_s = {"one process, all CPUs": time.perf_counter() - started}
            for count in (1, workers):
                asked = time.perf_counter()
                with encoder_pool(Home(Path(folder)), "", choice, count) as embed_parts:
                    started = time.perf_counter()
                    start_s = started - asked
                    found = dict(embed_parts(parts))
                    name = f"{count} worker{'s' * (count > 1)}"
                    took_s[name] = time.perf_counter() - started
                assert sorted(found) == list(range(PARTS))
                assert all(np.array_equal(found[n], exact[n]) for n in found)
            for name, seconds in took_s.items():
                best[name] = max(best[name], PARTS * PART / seconds)
    for name, rate in best.items():
        ratio = rate / best["one process, all CPUs"]
        print(f"{name:24}{rate:8.1f} texts/s  {ratio:5.2f}")
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; starting workers {start_s:.1f} s")


if __name__ == "__main__":
    main()
