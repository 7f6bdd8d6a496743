"""Campaigns that run now and want more than there is, so that pages have sponsored slots."""

from __future__ import annotations

import time

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.storage.dataset import Dataset
from recmesh.v1 import catalog_pb2, catalog_pb2_grpc

CAMPAIGNS = 12
ITEMS_OF_EACH = 20
LASTS_S = 6 * 3600
BUDGET = 100_000
CAP_A_DAY = 5
TIMEOUT_S = 30.0


def order_campaigns(
    channel: grpc.Channel, dataset: Dataset, *, budget: int = BUDGET, lasts_s: int = LASTS_S
) -> None:
    """For everybody, each on items from all over the catalogue; ends the run where it fails.

    Args:
        channel: to the mesh.
        dataset: what it serves.
        budget: of each, impressions.
        lasts_s: from now on; 0 ends campaigns that were ordered before.
    """
    now = int(time.time())
    item_ids = dataset.items["item_id"].to_pylist()
    campaigns = [
        catalog_pb2.Campaign(
            campaign_id=f"bench-{number}",
            sponsor=f"sponsor {number}",
            disclosure=f"Sponsored by sponsor {number}",
            item_ids=item_ids[number + 1 :: max(len(item_ids) // ITEMS_OF_EACH, 1)],
            starts_at=Timestamp(seconds=now - 3600),
            ends_at=Timestamp(seconds=now + lasts_s),
            budget_impressions=budget,
            frequency_cap_per_day=CAP_A_DAY,
        )
        for number in range(CAMPAIGNS)
    ]
    try:
        catalog_pb2_grpc.CatalogServiceStub(channel).UpsertCampaigns(
            catalog_pb2.UpsertCampaignsRequest(campaigns=campaigns), timeout=TIMEOUT_S
        )
    except grpc.RpcError as error:
        raise SystemExit(f"campaigns cannot be ordered: {error.details()}") from None
