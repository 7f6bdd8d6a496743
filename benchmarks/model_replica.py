"""One trained model in a process of its own: asked inside, and over gRPC.

``python -m benchmarks.model_replica NAME [--without MEASURE]…`` prints its address and memory,
then serves until standard input closes. To each line ``KIND PAGES`` it answers the CPU seconds
that so many pages took in this process, to an empty one those that it has spent in all. Measures
that can be taken away again, to see what each gains:

- ``recent``    scores of the user asked about a moment ago are not computed again
- ``numpy``     the sequence model runs in NumPy, not torch
- ``best-rows`` the best items are found without sorting the others
- ``together``  queries that wait are embedded together
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import time
from typing import Any

import numpy as np
import psutil

from benchmarks.model_calls import Asked, ask
from recmesh.deployments.model_methods import TEXTS_TOGETHER, ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.models.model import Float32, Int64
from recmesh.models.recent_scores import RecentScores
from recmesh.models.registry import loader
from recmesh.storage.artifacts import Artifact, ArtifactStore
from recmesh.storage.home import Home


def in_torch(artifact: Artifact) -> Any:
    """The sequence model's last state, as training computes it."""
    import torch

    from recmesh.models.behavioral.sasrec import SASRec

    parameters = artifact.card.parameters
    items = len(artifact.strings["item_ids"])
    net = SASRec(items, int(parameters["dim"]), int(parameters["blocks"]), 0.0).eval()
    net.load_state_dict({name: torch.tensor(t) for name, t in artifact.tensors.items()})

    def last_state(*columns: Int64) -> Float32:
        with torch.inference_mode():
            states = net(*(torch.from_numpy(column)[None] for column in columns))
        state: Float32 = states[0, -1].numpy()
        return state

    return last_state


def by_sorting(scores: Float32, limit: int) -> Int64:
    """As ``best_rows``."""
    best: Int64 = np.argsort(-scores, kind="stable")[: max(limit, 0)]
    return best


async def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--without", action="append", default=[])
    arguments = parser.parse_args()
    home = Home.from_environment()
    artifact = ArtifactStore(home.artifacts).load(arguments.name)
    model: Any = loader(arguments.name)(artifact)
    if "recent" in arguments.without:
        model.recent = RecentScores(0)
    if "numpy" in arguments.without:
        model.last_state = in_torch(artifact)
    if "best-rows" in arguments.without:
        module = importlib.import_module(f"recmesh.models.{arguments.name}.model")
        module.best_rows = by_sorting  # type: ignore[attr-defined]
    together = 1 if "together" in arguments.without else TEXTS_TOGETHER
    methods = ModelMethods(model, texts_together=together)
    await methods.warm_up()
    rss_mb = psutil.Process().memory_info().rss / 1e6
    asked = Asked(home.dataset, side=1)

    async def call(method: str, request: Any) -> Any:
        return await getattr(methods, method)(request)

    server = model_server(methods)
    port = await server.start("127.0.0.1:0")
    print(json.dumps({"address": f"127.0.0.1:{port}", "rss_mb": rss_mb}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        before_s = 0.0
        if kind_and_number := line.split():
            pages = asked.pages(kind_and_number[0], int(kind_and_number[1]))
            before_s = time.process_time()
            await ask(call, pages)
        print(time.process_time() - before_s, flush=True)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
