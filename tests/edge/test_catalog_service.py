"""Writing the catalog as callers do: over a real connection, into a real database."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.cli.written_data import current_dataset
from recmesh.deployments.local_mesh import local_mesh
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import UnavailableError
from recmesh.storage.home import Home
from recmesh.v1 import catalog_pb2, catalog_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc
from tests.small_world import ingested_home, train

EVENTUALLY_S = 30.0


@dataclass
class Caller:
    """A backend service."""

    catalog: catalog_pb2_grpc.CatalogServiceAsyncStub
    recommendations: recommendation_pb2_grpc.RecommendationServiceAsyncStub
    channel: grpc.aio.Channel

    async def page(self, surface: str = "feed", **fields: Any) -> list[str]:
        request = recommendation_pb2.RecommendRequest(
            surface=surface, user_id="reader", page_size=50, **fields
        )
        page = await self.recommendations.Recommend(request, timeout=10)
        return [shown.item_id for shown in page.recommendations]

    async def eventually(self, holds: Callable[[list[str]], bool], **fields: Any) -> None:
        end = time.monotonic() + EVENTUALLY_S
        while not holds(found := await self.page(**fields)):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def calling(home: Home, database_uri: str = "") -> AsyncIterator[Caller]:
    async with (
        local_mesh(home, DEFAULT_POLICY, "127.0.0.1:0", database_uri) as mesh,
        grpc.aio.insecure_channel(mesh.address) as channel,
    ):
        yield Caller(
            catalog_pb2_grpc.CatalogServiceStub(channel),
            recommendation_pb2_grpc.RecommendationServiceStub(channel),
            channel,
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("RECMESH_HOME", str(tmp_path))
    return ingested_home(tmp_path)


@pytest.fixture
async def caller(home: Home) -> AsyncIterator[Caller]:
    async with calling(home) as made:
        yield made


def item(item_id: str, **fields: Any) -> catalog_pb2.Item:
    defaults: dict[str, Any] = {
        "title": f"About {item_id}",
        "content_type": "article",
        "published_at": Timestamp(seconds=int(time.time()) - 60),
    }
    return catalog_pb2.Item(item_id=item_id, **(defaults | fields))


def items(*made: catalog_pb2.Item) -> catalog_pb2.UpsertItemsRequest:
    return catalog_pb2.UpsertItemsRequest(items=made)


async def test_a_written_item_shows_and_a_deleted_one_goes(caller: Caller, home: Home) -> None:
    written = await caller.catalog.UpsertItems(items(item("new"), item("i3", title="Changed")))
    assert written.upserted == 2
    await caller.eventually(lambda shown: "new" in shown)
    again = await caller.catalog.UpsertItems(items(item("new"), item("i3", title="Changed")))
    assert again.upserted == 2
    deleted = await caller.catalog.DeleteItems(
        catalog_pb2.DeleteItemsRequest(item_ids=["new", "i7", "unknown", "i7"])
    )
    assert deleted.deleted == 2
    await caller.eventually(lambda shown: not {"new", "i7"} & set(shown))
    again = await caller.catalog.DeleteItems(
        catalog_pb2.DeleteItemsRequest(item_ids=["new", "i7", "unknown"])
    )
    assert again.deleted == 0
    dataset = await asyncio.to_thread(current_dataset, home)
    ids = dataset.items["item_id"].to_pylist()
    assert "i7" not in ids
    assert dataset.items["title"][ids.index("i3")].as_py() == "Changed"


async def test_what_was_written_survives_a_restart(
    home: Home, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_DATABASE__URI", database_uri)
    async with calling(home, database_uri) as caller:
        await caller.catalog.UpsertItems(items(item("new")))
        await caller.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=["i2"]))
    async with calling(home, database_uri) as caller:
        shown = await caller.page()
        assert "new" in shown
        assert "i2" not in shown
    assert home.database.exists() == (not database_uri)
    assert (await asyncio.to_thread(current_dataset, home)).items.num_rows == 40


async def test_users_and_edges_change_what_a_doctor_is_shown(caller: Caller) -> None:
    await caller.catalog.UpsertItems(items(item("german", countries=["DE"])))
    user = catalog_pb2.User(
        user_id="reader", country="DE", specialties=["cardiology"], consents_personalisation=True
    )
    assert (
        await caller.catalog.UpsertUsers(
            catalog_pb2.UpsertUsersRequest(users=[user, catalog_pb2.User(user_id="peer")])
        )
    ).upserted == 2
    await caller.eventually(lambda shown: "german" in shown)
    await caller.eventually(lambda shown: "peer" in shown, surface="network")
    edge = catalog_pb2.Edge(source_user_id="reader", target_user_id="peer", edge_type="follow")
    assert (
        await caller.catalog.UpsertEdges(catalog_pb2.UpsertEdgesRequest(edges=[edge]))
    ).upserted == 1
    await caller.eventually(lambda shown: "peer" not in shown, surface="network")


def campaign(**fields: Any) -> catalog_pb2.Campaign:
    defaults: dict[str, Any] = {
        "campaign_id": "c",
        "sponsor": "s",
        "item_ids": ["i1"],
        "starts_at": Timestamp(seconds=1_000),
        "ends_at": Timestamp(seconds=2_000),
        "budget_impressions": 1,
        "value": 0.5,
        "disclosure": "Ad",
    }
    return catalog_pb2.Campaign(**(defaults | fields))


async def test_campaigns_are_part_of_the_data_set(caller: Caller, home: Home) -> None:
    request = catalog_pb2.UpsertCampaignsRequest(campaigns=[campaign()])
    assert (await caller.catalog.UpsertCampaigns(request)).upserted == 1
    (row,) = (await asyncio.to_thread(current_dataset, home)).campaigns.to_pylist()
    assert (row["campaign_id"], row["item_ids"]) == ("c", ["i1"])


def edges(*made: catalog_pb2.Edge) -> catalog_pb2.UpsertEdgesRequest:
    return catalog_pb2.UpsertEdgesRequest(edges=made)


def campaigns(**fields: Any) -> catalog_pb2.UpsertCampaignsRequest:
    return catalog_pb2.UpsertCampaignsRequest(campaigns=[campaign(**fields)])


FAR = Timestamp(seconds=10**12)


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("UpsertItems", items(), "items"),
        ("UpsertItems", items(item("a"), item("")), "items[1].item_id"),
        ("UpsertItems", items(item("x" * 10_000)), "items[0].item_id"),
        ("UpsertItems", items(item("a"), item("b"), item("a")), "items[2].item_id"),
        ("UpsertItems", items(item("a", title="")), "items[0].title"),
        ("UpsertItems", items(item("a", abstract="x" * 1_000_000)), "items[0].abstract"),
        ("UpsertItems", items(item("a", body="x" * 1_000_001)), "items[0].body"),
        ("UpsertItems", items(item("a", title="nul\0")), "items[0].title"),
        ("UpsertItems", items(item("a", content_type="No Kebab")), "items[0].content_type"),
        ("UpsertItems", items(item("a", topics=["heart failure", ""])), "items[0].topics[1]"),
        ("UpsertItems", items(item("a", countries=["Germany"])), "items[0].countries[0]"),
        ("UpsertItems", items(item("a", language="german")), "items[0].language"),
        ("UpsertItems", items(item("a", published_at=FAR)), "items[0].published_at"),
        (
            "UpsertItems",
            items(item("a", expires_at=Timestamp(seconds=1))),
            "items[0].expires_at",
        ),
        ("DeleteItems", catalog_pb2.DeleteItemsRequest(item_ids=["a", ""]), "item_ids[1]"),
        ("DeleteUsers", catalog_pb2.DeleteUsersRequest(), "user_ids"),
        (
            "UpsertUsers",
            catalog_pb2.UpsertUsersRequest(users=[catalog_pb2.User(user_id="u", country="de")]),
            "users[0].country",
        ),
        (
            "UpsertEdges",
            edges(catalog_pb2.Edge(source_user_id="a", target_user_id="a", edge_type="follow")),
            "edges[0].target_user_id",
        ),
        (
            "UpsertEdges",
            edges(
                catalog_pb2.Edge(
                    source_user_id="a", target_user_id="b", edge_type="f", weight=float("nan")
                )
            ),
            "edges[0].weight",
        ),
        ("UpsertCampaigns", campaigns(ends_at=Timestamp(seconds=1_000)), "campaigns[0].ends_at"),
        ("UpsertCampaigns", campaigns(item_ids=["i1", "i1"]), "campaigns[0].item_ids"),
        ("UpsertCampaigns", campaigns(budget_impressions=0), "campaigns[0].budget_impressions"),
        ("UpsertCampaigns", campaigns(value=1.5), "campaigns[0].value"),
        (
            "UpsertCampaigns",
            campaigns(targeting=catalog_pb2.Targeting(countries=["DE", "XX"])),
            "campaigns[0].targeting.countries",
        ),
        (
            "UpsertCampaigns",
            campaigns(targeting=catalog_pb2.Targeting(languages=["xx"])),
            "campaigns[0].targeting.languages",
        ),
    ],
)
async def test_bad_input_is_refused_with_the_field_and_changes_nothing(
    caller: Caller, home: Home, method: str, request_: Any, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await getattr(caller.catalog, method)(request_)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (raised.value.details() or "").startswith(f"{field}: ")
    blob = dict(raised.value.trailing_metadata() or ())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(blob).details[0].Unpack(info)
    assert info.metadata["field"] == field
    assert (await asyncio.to_thread(current_dataset, home)).catalog_seq == 0


async def test_more_input_that_callers_get_wrong(caller: Caller) -> None:
    call = caller.channel.unary_unary("/recmesh.v1.CatalogService/UpsertItems")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"\x0a\x04\x0a\x02\xff\xfe")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await caller.catalog.UpsertItems(items(*(item(f"b{n}", body="x" * 10**6) for n in "12345")))
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    # Field 999, a string, as a newer client might send.
    await call(items(item("newer")).SerializeToString() + b"\xba\x3e\x02hi")
    await caller.catalog.UpsertItems(items(item("long", body="x" * 10**6)))
    await caller.eventually(lambda shown: {"newer", "long"} <= set(shown))


async def test_an_erased_doctor_is_gone_from_everywhere_for_ever(home: Home) -> None:
    await asyncio.to_thread(train, home, "network")
    quarantine = home.dataset / "quarantine"
    quarantine.mkdir()
    (quarantine / "users.csv.jsonl").write_text(
        '{"line": 3, "row": {"user_id": "colleague"}}\n{"line": 4, "row": "x,colleague,y"}\n'
        '{"line": 5, "row": {"user_id": "colleagues"}}\n'
    )
    request = catalog_pb2.DeleteUsersRequest(user_ids=["colleague"])
    async with calling(home) as caller:
        await caller.catalog.UpsertEdges(
            edges(
                catalog_pb2.Edge(
                    source_user_id="colleague", target_user_id="stranger", edge_type="x"
                )
            )
        )
        answer = await caller.catalog.DeleteUsers(request)
        assert answer.deleted == 1
        remaining = {check.store: check.remaining for check in answer.checks}
        assert remaining == dict.fromkeys(
            (
                *("database: users", "database: edges"),
                *("database: events", "database: quarantined_events"),
                *("database: campaign_slots", "database: decisions"),
                "database: decisions that recommend them",
                *("data set", "quarantine", "artifacts"),
            ),
            0,
        )
        note = next(check.note for check in answer.checks if check.store == "artifacts")
        assert "ids taken out of network" in note
        assert "recmesh train" in note
        await caller.eventually(lambda shown: "colleague" not in shown, surface="network")
        assert (await caller.catalog.DeleteUsers(request)).deleted == 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await caller.catalog.UpsertUsers(
                catalog_pb2.UpsertUsersRequest(users=[catalog_pb2.User(user_id="colleague")])
            )
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "colleague" not in Dataset.open(home.dataset).events["user_id"].to_pylist()
    assert (quarantine / "users.csv.jsonl").read_text().count("\n") == 1
    strings = ArtifactStore(home.artifacts).load("network").strings["user_ids"]
    assert len(strings) == 2
    assert "colleague" not in strings
    source = home.root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "users.jsonl").write_text('{"user_id": "colleague"}\n{"user_id": "visitor"}\n')
    done = await asyncio.to_thread(CliRunner().invoke, app, ["ingest", str(source), "--json"])
    assert done.exit_code == 0, done.output
    assert '"erased": 1' in done.output
    users = Dataset.open(home.dataset).users["user_id"].to_pylist()
    assert sorted(users) == ["reader", "stranger", "visitor"]


async def test_erasing_while_data_are_ingested_is_completed_by_trying_again(
    caller: Caller, home: Home
) -> None:
    request = catalog_pb2.DeleteUsersRequest(user_ids=["colleague"])
    with (home.dataset / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await caller.catalog.DeleteUsers(request)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        await caller.eventually(lambda shown: "colleague" not in shown, surface="network")
    answer = await caller.catalog.DeleteUsers(request)
    assert {check.remaining for check in answer.checks} == {0}


def test_the_command_erases_and_proves_it_without_a_mesh(home: Home) -> None:
    reading = Dataset.open(home.dataset)
    erased = CliRunner().invoke(app, ["users", "erase", "stranger", "--prove", "--json"])
    assert erased.exit_code == 0, erased.output
    assert '"deleted": 1' in erased.output
    with pytest.raises(UnavailableError, match="rewritten meanwhile"):
        _ = reading.users
    (home.root / "notes.txt").write_text("seen by the stranger, on monday")
    left = CliRunner().invoke(app, ["users", "erase", "stranger", "--prove", "--json"])
    assert left.exit_code == 1
    assert "notes.txt" in left.output


def test_ingesting_again_does_not_outrank_what_was_written(home: Home) -> None:
    async def write() -> None:
        async with calling(home) as caller:
            await caller.catalog.UpsertItems(items(item("i1", title="Written")))
            await caller.catalog.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=["i2"]))

    asyncio.run(write())
    source = home.root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "items.csv").write_text(
        "item_id,content_type,title\ni1,article,Old\ni2,article,Old\ni3,article,New\n"
    )
    done = CliRunner().invoke(app, ["ingest", str(source)])
    assert "2 rows outranked" in done.output
    now = current_dataset(home)
    titles = dict(
        zip(now.items["item_id"].to_pylist(), now.items["title"].to_pylist(), strict=True)
    )
    assert titles["i1"] == "Written"
    assert "i2" not in titles
    assert titles["i3"] == "New"
