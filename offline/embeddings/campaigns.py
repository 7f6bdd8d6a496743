"""How a campaign should become a vector, judged by which of the doctors it reached answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import rankdata

from recmesh.models.model import Float32, Progress, silent
from recmesh.models.nlp.campaign_embedding import CampaignEmbedding
from recmesh.models.nlp.doctor_embedding import DoctorEmbedding
from recmesh.models.nlp.encoder import Encoder
from recmesh.models.nlp.training import HALF_LIVES_DAYS, PROFILE_EVENTS, distinct, item_texts
from recmesh.models.nlp.vector_cache import encode_cached
from recmesh.offline.embeddings.ablation import Ablation
from recmesh.offline.evaluation.bootstrap import Float64
from recmesh.offline.evaluation.served_scores import request_user
from recmesh.offline.evaluation.temporal_split import EarlierDataset
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError

WAYS: dict[str, CampaignEmbedding] = {
    "items": CampaignEmbedding(),
    "targeting": CampaignEmbedding(items=0.0, targeting=1.0),
    "items and targeting": CampaignEmbedding(targeting=1.0),
    "audience won": CampaignEmbedding(items=0.0, audience=1.0),
    "items and audience": CampaignEmbedding(audience=1.0),
    "items, targeting and audience": CampaignEmbedding(targeting=1.0, audience=1.0),
}


@dataclass(frozen=True)
class _Flight:
    """A campaign halfway: who answered before, and the others that it was shown to after."""

    row: int
    middle: datetime
    won: list[str]
    reached: list[str]
    answered: list[bool]


def _flights(dataset: Dataset) -> list[_Flight]:
    """Campaigns with doctors who answered and who did not in the second half of their showing."""
    events = dataset.events
    events = events.filter(pc.not_equal(events["campaign_id"], ""))
    flights = []
    for row, campaign_id in enumerate(dataset.campaigns["campaign_id"].to_pylist()):
        own = events.filter(pc.equal(events["campaign_id"], campaign_id))
        shown = own.filter(pc.equal(own["event_type"], "impression"))
        if not shown.num_rows:
            continue
        middle = shown["time"][shown.num_rows // 2].as_py()
        _, seeing = _users(own, "impression", middle)
        won, answering = _users(own, "click", middle)
        reached = sorted(seeing - won)
        answered = [user in answering for user in reached]
        if any(answered) and not all(answered):
            flights.append(_Flight(row, middle, sorted(won), reached, answered))
    return flights


def _users(events: pa.Table, event_type: str, middle: datetime) -> tuple[set[str], set[str]]:
    own = events.filter(pc.equal(events["event_type"], event_type))
    is_early = pc.less(own["time"], pa.scalar(middle, own["time"].type))
    return (
        set(own.filter(is_early)["user_id"].to_pylist()),
        set(own.filter(pc.invert(is_early))["user_id"].to_pylist()),
    )


def compare_campaigns(
    dataset: Dataset,
    encoder: Encoder,
    cache: Path | None,
    progress: Progress = silent,
) -> Ablation:
    """Every way by AUC: the chance that one who answered is nearer than one who did not.

    Raises:
        DataError: no campaign has both after half of its showing.
    """
    flights = _flights(dataset)
    if not flights:
        raise DataError("no campaign reached doctors who answered and doctors who did not")
    campaigns = dataset.campaigns.to_pylist()
    specialties = sorted(
        distinct(dataset.items["specialties"])
        | distinct(dataset.users["specialties"])
        | distinct(dataset.campaigns["specialties"])
    )
    texts = item_texts(dataset)
    vectors = encode_cached(encoder, [*texts, *specialties], cache, progress)
    item_vectors = vectors[: len(texts)]
    by_specialty = dict(zip(specialties, vectors[len(texts) :], strict=True))
    item_rows = {item_id: row for row, item_id in enumerate(dataset.items["item_id"].to_pylist())}
    doctor = DoctorEmbedding(HALF_LIVES_DAYS[1], PROFILE_EVENTS)
    auc: dict[str, list[float]] = {name: [] for name in WAYS}
    for done, flight in enumerate(flights):
        store = UserStore(EarlierDataset.of(dataset, flight.middle))
        now_unix_s = int(flight.middle.timestamp())

        def embedded(
            users: list[str], store: UserStore = store, now_unix_s: int = now_unix_s
        ) -> Float32:
            found = [
                doctor.embed(
                    request_user(store, user), now_unix_s, item_rows, item_vectors, by_specialty
                )
                for user in users
            ]
            unknown = np.zeros(item_vectors.shape[1], np.float32)
            rows = [unknown if vector is None else vector for vector in found]
            return np.array(rows, np.float32).reshape(len(rows), item_vectors.shape[1])

        campaign = campaigns[flight.row]
        own = item_vectors[[item_rows[i] for i in campaign["item_ids"] if i in item_rows]]
        targeted = [by_specialty[name] for name in campaign["specialties"]]
        named = np.array(targeted, np.float32).reshape(len(targeted), item_vectors.shape[1])
        won, reached = embedded(flight.won), embedded(flight.reached)
        for name, way in WAYS.items():
            vector = way.embed(own, named, won)
            cosines = np.zeros(len(reached)) if vector is None else reached @ vector
            auc[name].append(_auc(cosines, np.array(flight.answered)))
        progress(done + 1, len(flights), "campaigns judged")
    values: dict[str, dict[str, Float64]] = {
        name: {"AUC": np.array(found)} for name, found in auc.items()
    }
    summary = (
        f"{len(flights)} campaigns, {sum(len(flight.reached) for flight in flights):,} doctors "
        f"who saw one in the second half of its showing, not won before; encoder {encoder.version}."
    )
    return Ablation.of(summary, values)


def _auc(scores: Float64 | Float32, positive: np.ndarray) -> float:
    ranks = rankdata(scores)
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))
