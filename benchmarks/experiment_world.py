"""An A/B test and an interleaved one, served over gRPC, in a world that knows what is true.

    python -m benchmarks.experiment_world [--doctors 3000] [--freshness 0.35]

The live policy weighs freshness .12, the other arm more of it and less relevance. Doctors of a
synthetic world ask a mesh for one feed page each and click as the world's truth has
it. What every page is worth, by policy, is known beforehand: both policies' pages of every doctor
are asked for while no experiment runs. Then an A/B test of nine tenths of the doctors and an
interleaved one of the last tenth run side by side in one layer, are read from the recorded events
by `recmesh experiment`, and compared with the truth. At the end assignment, clicks and coins are
drawn 500 times more, to tell how often the intervals hold and how often each finds the better
policy. Ten minutes of two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.local_mesh import local_mesh
from recmesh.offline.experiments.confidence_sequence import mixture_scale, radius
from recmesh.offline.experiments.effect import ArmMoments
from recmesh.offline.experiments.plan import Metric
from recmesh.offline.experiments.preference import page_credit, preference
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.truth import Truth
from recmesh.orchestrator.campaigns.campaign_book import CampaignBook
from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    Arm,
    Experiment,
    ExperimentBook,
    Layer,
)
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.experiments.interleaving import team_draft
from recmesh.orchestrator.experiments.served_experiments import PageMaking, ServedExperiments
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.ingest import ingest
from recmesh.storage.interchange import CAMPAIGNS
from recmesh.v1 import (
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

SLOTS = 10
CALLERS = 8
DRAWS = 500
ALPHA = 0.05
INTERLEAVED_SHARE = 0.1
PATIENCE = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "recmesh.v1.RecommendationService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"],
                },
            }
        ]
    }
)
"""A doctor whose page is refused on a busy machine asks again: what is measured is every page."""
MODELS = ("cf", "network")
ARMS = """
[[arms]]
name = "control"

[[arms]]
name = "fresher"
[arms.surfaces.feed]
objective_weights = { relevance = RELEVANCE, freshness = FRESHNESS, novelty = 0.05 }
"""
AB = f"""
name = "freshness"
hypothesis = "Doctors click more where what is new comes first."
surfaces = ["feed"]
share = {1 - INTERLEAVED_SHARE}
days = 14
{ARMS}
[plan]
planned_units = UNITS
[[plan.metrics]]
name = "clicks"
numerator = "clicks"
"""
INTERLEAVED = f"""
name = "freshness-drafted"
hypothesis = "Doctors prefer pages on which what is new comes first."
kind = "interleave"
surfaces = ["feed"]
share = {INTERLEAVED_SHARE}
days = 14
{ARMS}
[plan]
planned_units = UNITS
"""


def recmesh(home: Home, *arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "recmesh.cli.main", *arguments]
    environment = os.environ | {"RECMESH_HOME": str(home.root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"recmesh {' '.join(arguments)}: {done.stderr}")
    return done.stdout


@dataclass
class World:
    """Doctors who click as the truth has it, and the mesh that they ask."""

    home: Home
    truth: Truth
    rng: np.random.Generator

    def __post_init__(self) -> None:
        data = Dataset.open(self.home.dataset)
        self.doctors: list[str] = data.users["user_id"].to_pylist()
        ids = data.items["item_id"].to_pylist()
        self.row = {item: row for row, item in enumerate(ids)}
        self.now_unix_s = int(WorldConfig().start.timestamp() + 86_400 * self.truth.days)

    def likely(self, doctor: Int64, items: Int64) -> Float64:
        """Probability of a click on every slot ``[n, slots]``; 0 for an empty slot, -1."""
        n, slots = items.shape
        found = self.truth.click_probability(
            np.repeat(doctor, slots),
            np.maximum(items, 0).ravel(),
            np.tile(np.arange(1, slots + 1), n),
            np.full(n * slots, self.truth.days),
        )
        return np.where(items < 0, 0.0, found.reshape(n, slots))


def asking(address: str) -> grpc.aio.Channel:
    """A channel to the mesh whose callers wait until it has time for them."""
    return grpc.aio.insecure_channel(address, [("grpc.service_config", PATIENCE)])


class Callers:
    """Asks for pages and sends back what came of them."""

    def __init__(self, world: World, channel: grpc.aio.Channel) -> None:
        self._world = world
        self._pages = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)

    async def page(self, doctor: int) -> recommendation_pb2.RecommendResponse:
        """A doctor's page."""
        request = recommendation_pb2.RecommendRequest(
            surface="feed", user_id=self._world.doctors[doctor], page_size=SLOTS
        )
        request.context.time.seconds = self._world.now_unix_s
        return await self._pages.Recommend(request, timeout=30)

    def items(self, page: recommendation_pb2.RecommendResponse) -> Int64:
        """Its items ``[slots]``."""
        found = np.full(SLOTS, -1, np.int64)
        rows = [self._world.row[slot.item_id] for slot in page.recommendations]
        found[: len(rows)] = rows
        return found

    async def pages(self) -> tuple[Int64, set[str]]:
        """Every doctor's page ``[doctors, slots]``, and the policies that made them."""
        found = np.full((len(self._world.doctors), SLOTS), -1, np.int64)
        policies = set()
        async for doctor, page in self._all():
            found[doctor] = self.items(page)
            policies.add(page.versions.policy)
        return found, policies

    async def experience(self) -> None:
        """Every doctor asks for a page, looks at all of it, and clicks."""
        async for doctor, page in self._all():
            items = self.items(page)
            likely = self._world.likely(np.array([doctor]), items[None])[0]
            clicked = self._world.rng.random(SLOTS) < likely
            await self._record(doctor, page, clicked)

    async def _record(
        self, doctor: int, page: recommendation_pb2.RecommendResponse, clicked: npt.NDArray[Any]
    ) -> None:
        happened = [("IMPRESSION", slot) for slot in page.recommendations]
        happened += [
            ("CLICK", slot)
            for slot, click in zip(page.recommendations, clicked, strict=False)
            if click
        ]
        events = [
            feedback_pb2.Event(
                event_id=f"{page.request_id}/{slot.rank}/{kind}",
                event_type=common_pb2.EventType.Value(f"EVENT_TYPE_{kind}"),
                user_id=self._world.doctors[doctor],
                item_id=slot.item_id,
                attribution_token=page.attribution_token,
                time=Timestamp(seconds=int(time.time())),
            )
            for kind, slot in happened
        ]
        request = feedback_pb2.RecordEventsRequest(caller="world", events=events)
        await self._feedback.RecordEvents(request, timeout=30)

    async def _all(self) -> AsyncIterator[tuple[int, recommendation_pb2.RecommendResponse]]:
        doctors = range(len(self._world.doctors))
        for start in range(0, len(doctors), CALLERS):
            some = doctors[start : start + CALLERS]
            for doctor, page in zip(
                some, await asyncio.gather(*(self.page(d) for d in some)), strict=True
            ):
                yield doctor, page

    async def serves(self, policy: str = "", *, experiments: bool = False) -> None:
        """Waits until the mesh has taken over what was promoted or started."""
        while True:
            page = await self.page(0)
            if experiments and page.versions.experiment_arms:
                return
            if not experiments and page.versions.policy == policy:
                return
            await asyncio.sleep(0.05)


def made_home(folder: Path, doctors: int) -> tuple[Home, Truth]:
    """A world with trained models and without campaigns, which would be sold otherwise."""
    config = WorldConfig(doctors=doctors, items=2000, days=45, campaigns=0)
    generate(folder / "world", config)
    home = Home(folder / "home")
    ingest(folder / "world", home.dataset)
    for model in MODELS:
        recmesh(home, "train", model)
    return home, Truth.load(folder / "world" / "truth")


async def serve(world: World, folder: Path, freshness: float) -> tuple[Int64, Int64]:
    """Runs both experiments; returns the pages of both policies ``[doctors, slots]``."""
    home, units = world.home, len(world.doctors)
    for name, text in (("ab", AB), ("drafted", INTERLEAVED)):
        file = folder / f"{name}.toml"
        share = INTERLEAVED_SHARE if name == "drafted" else 1 - INTERLEAVED_SHARE
        weights = {"RELEVANCE": f"{0.95 - freshness:g}", "FRESHNESS": f"{freshness:g}"}
        for name_, value in {"UNITS": str(int(units * share)), **weights}.items():
            text = text.replace(name_, value)
        file.write_text(text)
        recmesh(home, "experiment", "create", str(file))
    treatment = ExperimentStore(home.experiments).read().experiment("freshness").arms[1].policy
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        asking(mesh.address) as channel,
    ):
        callers = Callers(world, channel)
        own, policies = await callers.pages()
        (live,) = policies
        await asyncio.to_thread(recmesh, home, "policy", "promote", treatment)
        await callers.serves(treatment)
        theirs, _ = await callers.pages()
        await asyncio.to_thread(recmesh, home, "policy", "rollback")
        await callers.serves(live)
        for name in ("freshness", "freshness-drafted"):
            await asyncio.to_thread(recmesh, home, "experiment", "start", name)
        await callers.serves(experiments=True)
        await callers.experience()
    return own, theirs


def drawn(world: World, own: Int64, theirs: Int64) -> None:
    """Assignment, clicks and coins drawn again and again: what the experiments can find."""
    n = len(world.doctors)
    everybody = np.arange(n)
    likely = [world.likely(everybody, pages) for pages in (own, theirs)]
    true = float((likely[1].sum(1) - likely[0].sum(1)).mean())
    few = int(n * INTERLEAVED_SHARE)
    rng = world.rng
    metric = Metric(name="clicks", numerator="clicks")
    scale = {units: mixture_scale(units, ALPHA) for units in (few, n - few)}
    covered, ever, found = 0, 0, {"A/B": 0, "A/B, as few": 0, "interleaved": 0}
    for _ in range(DRAWS):
        order = rng.permutation(n)
        for name, some in (("A/B", order[few:]), ("A/B, as few", order[:few])):
            treated = rng.random(len(some)) < 0.5
            chance = np.where(treated[:, None], likely[1][some], likely[0][some])
            clicks = (rng.random(chance.shape) < chance).sum(1)
            arms = np.where(treated, "t", "c")
            moments = ArmMoments(pa.table({"arm": arms, "clicks": clicks}), (metric,))
            effect = moments.effect(metric, "c", "t")
            low, high = effect.interval(ALPHA)
            found[name] += effect.p <= ALPHA and (effect.difference > 0) == (true > 0)
            if name == "A/B":
                reach = float(radius(effect.standard_error, effect.units, scale[n - few], ALPHA))
                covered += low <= true <= high
                ever += abs(effect.difference - true) <= reach
        some = order[:few]
        page = team_draft(own[some], theirs[some], SLOTS, rng)
        chance = world.likely(some, page.items)
        clicks = (rng.random(chance.shape) < chance).astype(np.float64)
        result = preference(page_credit(page.credited, clicks), np.arange(few))
        found["interleaved"] += result.p <= ALPHA and (result.credit > 0) == (true > 0)
    print(f"\n{DRAWS} draws of assignment, clicks and coins on the same pages")
    print(f"  A/B, {n - few:,} doctors: the 95% interval covers the truth   {covered / DRAWS:.3f}")
    print(f"  A/B, {n - few:,} doctors: the always-valid interval does      {ever / DRAWS:.3f}")
    for name, count in found.items():
        size = n - few if name == "A/B" else few
        print(f"  the better policy is found at one look: {name}, {size:,} doctors  "
              f"{count / DRAWS:.3f}")  # fmt: skip


def assignment_cost() -> None:
    """Prints what experiments cost a request: an experiment in each of some layers."""
    now = datetime.now(UTC)
    experiments = [
        Experiment(
            name=f"test-{layer}",
            layer=layer,
            arms=(Arm(name="control", share=0.5), Arm(name="tuned", share=0.5, **changes)),
            first_bucket=0,
            buckets=BUCKETS,
            starts_at=now - timedelta(days=1),
            ends_at=now + timedelta(days=1),
        )
        for layer, changes in (("a", {"policy": "p"}), ("b", {}), ("c", {}))
    ]
    campaigns = CampaignBook.of(CAMPAIGNS.columns.empty_table())
    print()
    for number in range(4):
        book = ExperimentBook(
            layers=tuple(Layer(name=e.layer, salt=e.layer) for e in experiments[:number]),
            experiments=tuple(experiments[:number]),
        )
        served = ServedExperiments(book, {("p", "", frozenset()): PageMaking()})
        took_s = min(
            timeit.repeat(
                lambda served=served: served.of("d000042", "feed", campaigns, now.timestamp()),
                timer=time.process_time,
                number=2000,
                repeat=7,
            )
        )
        print(f"arms of a request, {number} experiments: {1e6 * took_s / 2000:.1f} µs of a core")


def said(report: dict[str, Any], truths: Iterable[str]) -> None:
    """Prints what an experiment says, and what is true."""
    of = " slots" if report["kind"] == "interleave" else ""
    units = ", ".join(f"{arm['name']} {arm['units']:,}{of}" for arm in report["arms"])
    print(f"\n{report['name']}: {report['units']:,} doctors; {units}; "
          f"sample ratio p {report['sample_ratio']['p']:.3f}")  # fmt: skip
    for line in truths:
        print(f"  {line}")


async def main(doctors: int, folder: Path, freshness: float) -> None:
    """Makes the world, runs the experiments, prints figures."""
    home, truth = made_home(folder, doctors)
    world = World(home, truth, np.random.default_rng(3))
    own, theirs = await serve(world, folder, freshness)
    everybody = np.arange(len(world.doctors))
    worth = [world.likely(everybody, pages).sum(1) for pages in (own, theirs)]
    true = float((worth[1] - worth[0]).mean())
    alike = float((own[:, :, None] == theirs[:, None, :]).any(2).mean())
    print(f"true clicks a page: control {worth[0].mean():.4f}, fresher {worth[1].mean():.4f}, "
          f"difference {true:+.4f} ({true / worth[0].mean():+.1%}); "
          f"{alike:.0%} of the items are the same")  # fmt: skip
    ab = json.loads(recmesh(home, "experiment", "status", "freshness", "--json"))
    goal = ab["analysis"]["goals"][0]
    low, high = goal["interval"]
    low_ever, high_ever = goal["always_valid_interval"]
    said(
        ab,
        (
            f"difference {goal['effect']['difference']:+.4f}",
            f"95% interval {low:+.4f} to {high:+.4f}: covers the truth: {low <= true <= high}",
            f"always valid {low_ever:+.4f} to {high_ever:+.4f}: covers the truth: "
            f"{low_ever <= true <= high_ever}",
        ),
    )
    drafted = json.loads(recmesh(home, "experiment", "status", "freshness-drafted", "--json"))
    found = drafted["preferred"]
    said(
        drafted,
        (
            f"items wanted: {found['wanted']}",
            f"credit a page {found['preference']['credit']:+.3f}, p {found['p']:.4f}, "
            f"always valid {found['always_valid_p']:.4f}",
        ),
    )
    drawn(world, own, theirs)
    assignment_cost()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doctors", type=int, default=3000)
    parser.add_argument("--freshness", type=float, default=0.35, help="Its weight in the arm.")
    parser.add_argument("--home", type=Path, help="Folder to work in; default: a temporary one.")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asyncio.run(main(given.doctors, place, given.freshness))
