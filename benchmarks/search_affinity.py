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
from dataclasses import dataclass, field

import numpy as np
from rich.progress import track

from recmesh.deployments.inprocess_model_client import InProcessModelClient
from recmesh.models.model import TrainedModel
from recmesh.models.nlp.query_clicks import WINDOW_S
from recmesh.offline.evaluation.fitting import fit, serving_model
from recmesh.offline.evaluation.temporal_split import EarlierDataset, TemporalSplit
from recmesh.offline.evaluation.trained_index import trained_index
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.model_panel import ModelPanel
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.recommend import recommend
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES
from recmesh.v1 import recommendation_pb2

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
PAGE = 10
PATIENCE_S = 10.0


@dataclass(slots=True)
class Case:
    """One search, and what was opened after it."""

    user_id: str
    query: str
    now_unix_s: int
    wanted: set[str] = field(default_factory=set)


def cases(dataset: Dataset, split: TemporalSplit, most: int) -> list[Case]:
    """Searches of the test period that led to something."""
    known = set(dataset.items["item_id"].to_pylist())
    last: dict[str, Case] = {}
    found: list[Case] = []
    for event in dataset.events.to_pylist():
        if event["time"] < split.test_start:
            continue
        at_unix_s, user_id = int(event["time"].timestamp()), event["user_id"]
        if event["event_type"] == "search" and event["query"]:
            last[user_id] = Case(user_id, event["query"], at_unix_s)
            found.append(last[user_id])
        elif (
            event["event_type"] in POSITIVE_EVENT_TYPES
            and event["item_id"] in known
            and user_id in last
            and at_unix_s - last[user_id].now_unix_s <= WINDOW_S
        ):
            last[user_id].wanted.add(event["item_id"])
    return [case for case in found if case.wanted][:most]


async def mesh_of(known: Dataset, nlp: TrainedModel) -> tuple[Mesh, InProcessModelClient]:
    """The pipeline as it would have served when the test period began."""
    index, record = await trained_index(known, nlp)
    client = InProcessModelClient(serving_model(nlp))
    panel = ModelPanel({"nlp": client})
    await panel.refresh()
    return Mesh(panel, index, Snapshot.of(known, Policy.load(), record)), client


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
    mesh, client = await mesh_of(known, nlp)
    asked_cases = cases(dataset, split, most)
    middle = len(asked_cases) // 2
    print(f"{len(asked_cases)} searches, {len(nlp.strings['queries'])} earlier queries")
    print(f"{'affinity':>10}{'first half':>12}{'second half':>13}")
    for weight in WEIGHTS:
        values = await judged(mesh, weight, asked_cases)
        halves = np.mean(values[:middle]), np.mean(values[middle:])
        print(f"{weight:10}{halves[0]:12.4f}{halves[1]:13.4f}", flush=True)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
