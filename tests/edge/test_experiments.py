"""An experiment from its file to what it says, as its owner and as backend services see it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.deployments import action_recorder, swipe_methods
from recmesh.deployments.local_mesh import local_mesh
from recmesh.offline.world.config import WorldConfig
from recmesh.offline.world.generate import generate
from recmesh.offline.world.truth import Truth
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.experiments.assignment import assign
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.policy import DEFAULT_POLICY, Policy
from recmesh.storage.dataset import Dataset
from recmesh.storage.home import Home
from recmesh.storage.ingest import ingest
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import common_pb2, feedback_pb2, recommendation_pb2
from tests.edge.test_feedback_service import Caller
from tests.edge.test_swipe import Swiping

WORLD = WorldConfig(doctors=300, items=120, days=6, seed=5)
SOON_S = 60.0
"""A busy machine's."""
LIVE = Policy.load().version

AB = """
name = "fresh-feed"
hypothesis = "Doctors click more where what is new comes first."
surfaces = ["feed"]
days = 14

[[arms]]
name = "control"

[[arms]]
name = "fresh"
[arms.surfaces.feed]
objective_weights = { freshness = 1.0 }

[plan]
planned_units = 300
slices = ["country"]
[[plan.metrics]]
name = "clicks"
numerator = "clicks"
[[plan.metrics]]
name = "click-rate"
numerator = "clicks"
denominator = "impressions"
[[plan.metrics]]
name = "pages"
numerator = "pages"
margin = 0.5
"""
INTERLEAVED = """
name = "draft"
hypothesis = "Doctors prefer what is new."
kind = "interleave"
surfaces = ["feed"]
days = 14

[[arms]]
name = "control"

[[arms]]
name = "fresh"
[arms.surfaces.feed]
objective_weights = { freshness = 1.0 }

[plan]
planned_units = 300
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    generate(folder, WORLD)
    return folder


@pytest.fixture
def home(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    ingest(world, tmp_path / "home" / "dataset")
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def recmesh(*arguments: str, fails: bool = False) -> str:
    """What a command prints; where it fails, its errors."""
    result = CliRunner().invoke(app, ["experiment", *arguments])
    assert bool(result.exit_code) == fails, result.output
    return result.output if fails else result.stdout


def created(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "experiment.toml"
    file.write_text(text)
    return json.loads(recmesh("create", str(file), "--json"))


@dataclass
class Clinic:
    """Doctors who ask for pages and click on them as the world's truth has it."""

    caller: Caller
    home: Home
    truth: Truth
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    clicks: Counter[str] = field(default_factory=Counter)
    """Sent, by user."""

    def __post_init__(self) -> None:
        data = Dataset.open(self.home.dataset)
        self.doctors: list[str] = data.users["user_id"].to_pylist()
        self._row = {item: row for row, item in enumerate(data.items["item_id"].to_pylist())}
        self._doctor = {user: row for row, user in enumerate(self.doctors)}
        end = self.truth.days
        self.now_unix_s = int(WORLD.start.timestamp() + end * 86_400)

    async def page(self, user: str) -> recommendation_pb2.RecommendResponse:
        request = recommendation_pb2.RecommendRequest(surface="feed", user_id=user)
        request.context.time.seconds = self.now_unix_s
        return await self.caller.recommendations.Recommend(request, timeout=SOON_S)

    async def look_at(self, user: str, page: recommendation_pb2.RecommendResponse) -> None:
        slots = page.recommendations
        rows = np.array([self._row[slot.item_id] for slot in slots])
        ranks = np.array([slot.rank for slot in slots])
        doctor = np.full(len(rows), self._doctor[user])
        likely = self.truth.click_probability(
            doctor, rows, ranks, np.full(len(rows), self.truth.days)
        )
        clicked = self.rng.random(len(rows)) < likely
        happened = [("IMPRESSION", slot) for slot in slots]
        happened += [("CLICK", slot) for slot, click in zip(slots, clicked, strict=True) if click]
        outcomes = await self.caller.record(
            *(
                feedback_pb2.Event(
                    event_id=f"{page.request_id}/{slot.rank}/{kind}",
                    event_type=common_pb2.EventType.Value(f"EVENT_TYPE_{kind}"),
                    user_id=user,
                    item_id=slot.item_id,
                    attribution_token=page.attribution_token,
                    time=Timestamp(seconds=int(time.time())),
                )
                for kind, slot in happened
            )
        )
        assert {status for status, _ in outcomes} == {"ACCEPTED"}
        self.clicks[user] += int(clicked.sum())


@asynccontextmanager
async def clinic(home: Home, world: Path) -> AsyncIterator[Clinic]:
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0") as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        yield Clinic(Caller(channel), home, Truth.load(world / "truth"))


async def eventually(found: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SOON_S
    while not await found():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.05)


async def served(people: Clinic, *, wanted: bool) -> None:
    """Waits until the first doctor's pages take part, or no longer do."""

    async def as_wanted() -> bool:
        page = await people.page(people.doctors[0])
        return bool(page.versions.experiment_arms) == wanted

    await eventually(as_wanted)


async def test_an_experiment_from_its_file_to_its_end(
    home: Home, world: Path, tmp_path: Path
) -> None:
    async with clinic(home, world) as people:
        made = await asyncio.to_thread(created, tmp_path, AB)
        fresh = made["experiment"]["arms"][1]["policy"]
        await asyncio.to_thread(recmesh, "start", "fresh-feed")
        await served(people, wanted=True)
        book = ExperimentStore(home.experiments).read().book
        tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
        arms = {}
        for user in people.doctors:
            page = await people.page(user)
            arm = assign(book, user, time.time(), surface="feed")
            assert dict(page.versions.experiment_arms) == arm
            assert page.versions.policy == (fresh if arm["fresh-feed"] == "fresh" else LIVE)
            content = tokens.verified(page.attribution_token).content
            assert content.policy_version == page.versions.policy
            assert dict(content.experiment_arms) == arm
            arms[user] = arm["fresh-feed"]
            await people.look_at(user, page)
        while_it_runs = json.loads(
            await asyncio.to_thread(recmesh, "status", "fresh-feed", "--json")
        )
        await asyncio.to_thread(recmesh, "stop", "fresh-feed", "--reason", "seen enough")
        await served(people, wanted=False)
        for user in people.doctors[:20]:
            page = await people.page(user)
            assert not page.versions.experiment_arms
            assert page.versions.policy == LIVE
            assert not tokens.verified(page.attribution_token).content.experiment_arms
    sizes, clicks = Counter(arms.values()), Counter[str]()
    for user, count in people.clicks.items():
        clicks[arms[user]] += count
    after = json.loads(recmesh("analyze", "fresh-feed", "--json"))
    for report in (while_it_runs, after):
        assert {arm["name"]: arm["units"] for arm in report["arms"]} == sizes
        assert {arm["name"]: arm["policies"] for arm in report["arms"]} == {
            "control": [LIVE],
            "fresh": [fresh],
        }
        assert not report["sample_ratio"]["mismatch"]
        goal = report["analysis"]["goals"][0]
        assert goal["effect"]["control"] == pytest.approx(clicks["control"] / sizes["control"])
        assert goal["effect"]["treatment"] == pytest.approx(clicks["fresh"] / sizes["fresh"])
    assert (while_it_runs["state"], after["state"]) == ("running", "stopped")
    text = recmesh("analyze", "fresh-feed", "--report", str(tmp_path / "page.html"))
    assert "only what is always valid is to be believed" in text
    assert "Experiment fresh-feed" in (tmp_path / "page.html").read_text()
    shown = recmesh("show", "fresh-feed")
    assert all(word in shown for word in ("created", "started", "stopped", "seen enough"))


async def test_an_interleaved_experiment_says_who_is_preferred(
    home: Home, world: Path, tmp_path: Path
) -> None:
    async with clinic(home, world) as people:
        await asyncio.to_thread(created, tmp_path, INTERLEAVED)
        await asyncio.to_thread(recmesh, "start", "draft")
        await served(people, wanted=True)
        tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
        picked: Counter[str] = Counter()
        for user in people.doctors:
            page = await people.page(user)
            assert dict(page.versions.experiment_arms) == {"draft": "interleaved"}
            token = tokens.verified(page.attribution_token)
            picked.update(token.arms_at(slot.rank)["draft"] for slot in page.recommendations)
            await people.look_at(user, page)
    report = json.loads(recmesh("status", "draft", "--json"))
    alike = picked.pop("interleaved")  # slots that both arms would have filled alike
    assert {arm["name"]: arm["units"] for arm in report["arms"]} == picked
    found = report["preferred"]
    total = people.clicks.total()
    assert total - alike <= sum(found["wanted"].values()) <= total
    assert found["pages"] == report["units"] == len(people.doctors)
    assert "shown to be preferred" in recmesh("analyze", "draft")


async def test_no_page_mixes_policies_while_experiments_come_and_go(
    home: Home, world: Path, tmp_path: Path
) -> None:
    policies: dict[str, str] = {}
    ended = asyncio.Event()
    async with clinic(home, world) as people:
        tokens = AttributionTokens(SigningKeys.load(home.attribution_keys))
        seen: set[str] = set()

        async def ask(users: Iterator[str]) -> None:
            for user in users:
                page = await people.page(user)
                content = tokens.verified(page.attribution_token).content
                assert content.policy_version == page.versions.policy
                arms = dict(page.versions.experiment_arms)
                assert dict(content.experiment_arms) == arms
                expected = {policies[n] if a == "fresh" else LIVE for n, a in arms.items()}
                assert {page.versions.policy} == (expected or {LIVE})
                seen.update(arms)
                if ended.is_set():
                    return

        askers = [asyncio.create_task(ask(iter(people.doctors[n::4] * 50))) for n in range(4)]
        for number in range(4):
            name = f"fresh-{number}"
            text = AB.replace("fresh-feed", name)
            made = await asyncio.to_thread(created, tmp_path, text)
            policies[name] = made["experiment"]["arms"][1]["policy"]
            await asyncio.to_thread(recmesh, "start", name)

            async def taken(name: str = name) -> bool:
                return name in seen

            await eventually(taken)
            await asyncio.to_thread(recmesh, "stop", name)
        ended.set()
        await asyncio.gather(*askers)
    assert seen == set(policies)


async def test_cards_of_a_session_have_their_doctors_arm(
    home: Home, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Actions are durable before the next card, however busy the machine is.
    monkeypatch.setattr(swipe_methods, "PATIENCE_S", 30.0)
    monkeypatch.setattr(action_recorder, "TIMEOUT_S", 30.0)
    text = AB.replace('surfaces = ["feed"]', 'surfaces = ["swipe"]').replace(".feed]", ".swipe]")
    await asyncio.to_thread(created, tmp_path, text)
    await asyncio.to_thread(recmesh, "start", "fresh-feed")
    async with clinic(home, world) as people:
        book = ExperimentStore(home.experiments).read().book
        for user in people.doctors[:6]:
            arm = assign(book, user, time.time(), surface="swipe")
            swiping = Swiping(people.caller.channel)
            card = await swiping.starts(user)
            for _ in range(2):
                assert dict(card.versions.experiment_arms) == arm, "also right after a restart"
                after = await swiping.acts(card)
                assert after is not None
                card = after
    report = json.loads(recmesh("status", "fresh-feed", "--json"))
    assert report["units"] == 6


def test_wrong_states_and_lost_events_are_said(home: Home, tmp_path: Path) -> None:
    assert "no experiment 'fresh-feed'; there is none" in recmesh(
        "analyze", "fresh-feed", fails=True
    )
    created(tmp_path, AB)
    assert "nobody took part yet; run: recmesh experiment start" in recmesh(
        "analyze", "fresh-feed", fails=True
    )
    recmesh("start", "fresh-feed")
    assert "nobody has recorded an event yet" in recmesh("status", "fresh-feed", fails=True)
    recmesh("stop", "fresh-feed")
    assert "was stopped already" in recmesh("stop", "fresh-feed")


async def test_events_lost_by_one_arm_end_all_belief(
    home: Home, world: Path, tmp_path: Path
) -> None:
    async with clinic(home, world) as people:
        await asyncio.to_thread(created, tmp_path, AB)
        await asyncio.to_thread(recmesh, "start", "fresh-feed")
        await served(people, wanted=True)
        for number, user in enumerate(people.doctors):
            page = await people.page(user)
            if page.versions.experiment_arms["fresh-feed"] == "control" or number % 2:
                await people.look_at(user, page)
    text = recmesh("analyze", "fresh-feed", fails=True)
    assert "MISMATCH" in text
    assert "nothing else is to be believed" in " ".join(text.split())
    assert "click-rate" not in text
    report = json.loads(recmesh("status", "fresh-feed", "--json"))
    assert report["analysis"] is None
    assert not report["believed"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('surfaces = ["feed"]', 'surfaces = ["stories"]', "surfaces: unknown 'stories'; there is"),
        ("days = 14", "days = 0", "days: Input should be greater than 0 (is 0)"),
        ("days = 14", "days = 14\nshare = 0.00001", "share: Input should be greater than"),
        ('name = "fresh"\n', 'name = "fresh"\nshare = 1.0\n', "nothing is left"),
        ('name = "fresh"\n', 'name = "fresh"\npolicy = "p"\n', "arms.fresh.policy: no policy 'p'"),
        (
            'name = "fresh"\n',
            'name = "fresh"\nembedding = "e"\n',
            "arms.fresh.embedding: no embedding version e",
        ),
        (
            'name = "fresh"\n',
            'name = "fresh"\nmodels = { cf = "1" }\n',
            "arms.fresh.models.cf: model cf has no version 1",
        ),
        (
            'name = "fresh"\n',
            'name = "fresh"\nwithout_campaigns = ["c-none"]\n',
            "without_campaigns: unknown 'c-none'",
        ),
        ("{ freshness = 1.0 }", "{ fame = 1.0 }", "unknown objective fame"),
        (
            "objective_weights = { freshness = 1.0 }",
            "model_weights = { llm = 1.0 }",
            "source or model: unknown 'llm'",
        ),
        ("[arms.surfaces.feed]", "[arms.surfaces.swipe]", "unknown 'swipe'; there is feed"),
        ('numerator = "pages"', 'numerator = "money"', "no column 'money'"),
        ('slices = ["country"]', 'slices = ["age"]', "plan.slices: 'age'"),
        ("planned_units = 300", "planned_units = 1", "planned_units: Input should be greater"),
        ("hypothesis", "idea", "hypothesis: Field required"),
        ("days = 14", 'days = 14\nkind = "interleave"', "it has no metrics and no slices"),
        ("[plan]", "[plan", "is not TOML"),
    ],
)
def test_what_cannot_serve_is_refused_with_rule_and_value(
    home: Home, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(AB.replace(old, new))
    text = " ".join(recmesh("create", str(file), fails=True).split())
    assert message in text
    assert not ExperimentStore(home.experiments).read().book.experiments


def test_interleaving_cards_is_refused(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(INTERLEAVED.replace('"feed"', '"swipe"').replace(".feed]", ".swipe]"))
    assert "swipe deals one card at a time" in recmesh("create", str(file), fails=True)


def test_a_check_keeps_nothing_and_a_second_creation_is_refused(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(AB)
    assert "is sound" in recmesh("create", str(file), "--check")
    assert not home.experiments.exists()
    assert not home.policies.exists()
    recmesh("create", str(file))
    assert "names are for ever" in recmesh("create", str(file), fails=True)
    assert "names are for ever" in recmesh("create", str(file), "--check", fails=True)
    listed = json.loads(recmesh("list", "--json"))["experiments"]
    assert [(one["name"], one["state"]) for one in listed] == [("fresh-feed", "created")]
    assert "fresh-feed" in recmesh("list")


def test_ramps_and_the_holdout(home: Home, tmp_path: Path) -> None:
    created(tmp_path, AB)
    assert "ramp: 2; the share" in recmesh("start", "fresh-feed", "--ramp", "2", fails=True)
    recmesh("start", "fresh-feed", "--ramp", "0.1", "--by", "ada")
    recmesh("ramp", "fresh-feed", "0.5")
    assert "cannot fall" in recmesh("ramp", "fresh-feed", "0.2", fails=True)
    recmesh("holdout", "0.05")
    assert "held out" in recmesh("list")
    assert "holdout_share" in recmesh("holdout", "1.5", fails=True)
    history = json.loads(recmesh("show", "fresh-feed", "--json"))["history"]
    assert [(entry["did"], entry["by"]) for entry in history][1] == ("started", "ada")
    assert datetime.fromisoformat(history[0]["at"]) < datetime.now(UTC)
