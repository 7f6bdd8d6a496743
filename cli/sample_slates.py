"""One page per surface for one doctor of the data set, through the real endpoint."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recmesh.deployments.edge_channel import Edge
from recmesh.orchestrator.policy import SurfacePolicy
from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES
from recmesh.v1 import recommendation_pb2, recommendation_pb2_grpc

SLOTS = 5
TIMEOUT_S = 5.0
POSITIVE = pa.array(sorted(POSITIVE_EVENT_TYPES))


@dataclass(frozen=True, slots=True)
class Sample:
    """A doctor to ask for, and what they might search."""

    user_id: str
    profile: str
    query: str


def sample_of(dataset: Dataset) -> Sample:
    """The doctor with the most events, and the topic, else the title, they read last."""
    events, items = dataset.events, dataset.items
    if not len(events):
        first = dataset.users["user_id"][0].as_py() if len(dataset.users) else "somebody-new"
        title = items["title"][0].as_py() if len(items) else ""
        return Sample(first, "no events", title)
    users = events["user_id"].combine_chunks().dictionary_encode()
    user_id: str = users.dictionary[pc.mode(users.indices)[0]["mode"].as_py()].as_py()
    mine = events.filter(pc.equal(events["user_id"], user_id))
    read = mine.filter(pc.is_in(mine["event_type"], value_set=POSITIVE)).sort_by("time")
    row = -1
    if len(read):
        row = pc.index(items["item_id"], read["item_id"][-1]).as_py()
    item = items.slice(row, 1).to_pylist()[0] if row >= 0 else items.slice(0, 1).to_pylist()[0]
    query = (item["topics"] or [item["title"]])[0].replace("-", " ")
    at = pc.index(dataset.users["user_id"], user_id).as_py()
    specialties = dataset.users["specialties"][at].as_py() if at >= 0 else []
    return Sample(user_id, ", ".join([*specialties, f"{len(mine)} events"]), query)


def _titles(dataset: Dataset) -> dict[str, str]:
    titles = dict(
        zip(dataset.items["item_id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True)
    )
    for user_id, specialties in zip(
        dataset.users["user_id"].to_pylist(), dataset.users["specialties"].to_pylist(), strict=True
    ):
        titles.setdefault(user_id, ", ".join(specialties) or "doctor")
    return titles


def print_sample_slates(
    console: Console, edge: Edge, dataset: Dataset, surfaces: dict[str, SurfacePolicy]
) -> None:
    """Asks for one short page per surface and prints it; an error is printed in its place."""
    sample, titles = sample_of(dataset), _titles(dataset)
    with edge.channel() as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        for surface, rules in surfaces.items():
            query = sample.query if rules.query == "required" else ""
            request = recommendation_pb2.RecommendRequest(
                surface=surface, user_id=sample.user_id, query=query, page_size=SLOTS, explain=True
            )
            try:
                page = stub.Recommend(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                console.print(f"[red]{surface}: {error.code().name}[/red] {error.details()}")
                continue
            _print_page(console, surface, sample, query, page, titles)


def _print_page(
    console: Console,
    surface: str,
    sample: Sample,
    query: str,
    page: recommendation_pb2.RecommendResponse,
    titles: dict[str, str],
) -> None:
    asked = f' for "{query}"' if query else ""
    title = f"{surface}{asked} · {sample.user_id} ({sample.profile})"
    table = Table(
        "", "item", "", "score", "why", title=title, title_justify="left", box=SIMPLE_HEAD
    )
    for slot in page.recommendations:
        name = titles.get(slot.item_id, "")
        table.add_row(str(slot.rank), slot.item_id, name, f"{slot.score:.3f}", slot.reason)
    console.print(table)
    answered = ", ".join(f"{name} {version}" for name, version in page.versions.models.items())
    missing = ", ".join(f"{d.component} ({d.reason})" for d in page.degradations)
    console.print(
        f"  {page.latency.ToMicroseconds() / 1000:.0f} ms · {answered or 'no model'}"
        + (f" · [yellow]degraded:[/yellow] {missing}" if page.degraded else ""),
        style="dim",
    )
