"""What the doctor's vector adds to search: python benchmarks/search_affinity.py [--cases N]

On the ingested data set of $RECMESH_HOME, best a synthetic world. The language model learns from
what lies before the last fifth of the events; searches after that are asked through the whole
pipeline, and judged on what the doctor opened within half an hour. Prints nDCG@10 at several
weights of the objective affinity, on the first half of the cases and on the second.
"""

from __future__ import annotations

import argparse
import asyncio
import math

import numpy as np
from rich.progress import track

from benchmarks.asked_cases import Case, searches
from benchmarks.asked_pages import mesh_of
from recmesh.offline.evaluation.fitting import fit
from recmesh.offline.evaluation.temporal_split import EarlierDataset, TemporalSplit
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
PAGE = 10
PATIENCE_S = 10.0


def ndcg(page: recommendation_pb2.RecommendResponse, wanted: set[str]) -> float:
    """Of one page."""
    gains = [slot.item_id in wanted for slot in page.recommendations]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), PAGE)))
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains)) / ideal


async def judged(mesh: Mesh, weight: float, asked_cases: list[Case]) -> list[float]:
    """nDCG@10 of every case at one weight of the objective."""
    policy = Policy.load()
    search = policy.surfaces["search"]
    policy.surfaces["search"] = search.model_copy(
        update={
            "objective_weights": {
                "relevance": 0.95 - weight,
                "affinity": weight,
                "freshness": 0.05,
            },
            "source_timeout_s": PATIENCE_S,
            "deadline_s": PATIENCE_S,
        }
    )
    mesh.snapshot = Snapshot(
        policy,
        mesh.snapshot.items,
        mesh.snapshot.users,
        mesh.snapshot.user_store,
        mesh.snapshot.embedding,
    )
    values = []
    for case in track(asked_cases, f"affinity {weight}", transient=True):
        request = recommendation_pb2.RecommendRequest(
            surface="search", user_id=case.user_id, query=case.query, page_size=PAGE
        )
        request.context.time.seconds = case.now_unix_s
        values.append(ndcg(await recommend(mesh, request, math.inf), case.wanted))
    return values


async def main() -> None:
    """Prints a line a weight."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    most = parser.parse_args().cases
    home = Home.from_environment()
    dataset = Dataset.open(home.dataset)
    split = TemporalSplit.of(dataset)
    known = EarlierDataset.of(dataset, split.test_start)
    nlp = fit("nlp", known, until=split.test_start, seed=0, text_vectors=home.text_vectors)
    mesh, clients = await mesh_of(known, nlp)
    asked_cases = searches(dataset, split.test_start, split.end)[:most]
    middle = len(asked_cases) // 2
    print(f"{len(asked_cases)} searches, {len(nlp.strings['queries'])} earlier queries")
    print(f"{'affinity':>10}{'first half':>12}{'second half':>13}")
    for weight in WEIGHTS:
        values = await judged(mesh, weight, asked_cases)
        halves = np.mean(values[:middle]), np.mean(values[middle:])
        print(f"{weight:10}{halves[0]:12.4f}{halves[1]:13.4f}", flush=True)
    for client in clients:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
