"""Trains SASRec on positive events; stops early on the last tenth of the time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from recmesh.models.behavioral.sasrec import SASRec
from recmesh.models.behavioral.sequence import LENGTH, gap_buckets
from recmesh.models.model import Int64, TrainedModel, TrainOptions
from recmesh.storage.artifacts import ModelCard
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError
from recmesh.storage.interchange import EVENT_TYPES, POSITIVE_EVENT_TYPES

DEFAULTS = {
    "dim": 64,
    "blocks": 2,
    "dropout": 0.2,
    "learning_rate": 2e-3,
    "batch": 128,
    "epochs": 40,
    "patience": 10,
    "refit": 0.25,  # further epochs on all events, as a share of the best epoch
}
HELD_OUT = 0.1
FULL_SOFTMAX_ITEMS = 5_000  # beyond, a sample of negatives ranks as well in a quarter of the time
NEGATIVES = 2_000


@dataclass(frozen=True, slots=True)
class _Events:
    """Positive events of known items as columns; sorted by user, then time."""

    users: Int64
    items: Int64  # from 1
    kinds: Int64
    times: Int64


@dataclass(frozen=True, slots=True)
class _Batch:
    """Padded sequences, int64 ``[users, LENGTH]``; target 0 means none."""

    items: Tensor
    kinds: Tensor
    gaps: Tensor
    targets: Tensor


def _positive_events(dataset: Dataset, options: TrainOptions, item_ids: list[str]) -> _Events:
    events = dataset.events
    keep = pc.is_in(events["event_type"], value_set=pa.array(sorted(POSITIVE_EVENT_TYPES)))
    keep = pc.and_(keep, pc.is_in(events["item_id"], value_set=pa.array(item_ids, pa.string())))
    if options.until is not None:
        until = pa.scalar(options.until, events["time"].type)
        keep = pc.and_(keep, pc.less(events["time"], until))
    events = events.filter(keep)
    known = pa.array(item_ids, pa.string())
    items = pc.index_in(events["item_id"], value_set=known).to_numpy().astype(np.int64) + 1
    users = events["user_id"].combine_chunks().dictionary_encode()
    codes = pa.chunked_array([users]).combine_chunks().indices.to_numpy().astype(np.int64)
    kinds = np.array([EVENT_TYPES[name] for name in events["event_type"].to_pylist()], np.int64)
    times = events["time"].cast(pa.int64()).to_numpy() // 1000
    order = np.lexsort((times, codes))
    # A click, its dwell and its save are one step; what came last of them says most.
    last = np.ones(len(order), bool)
    last[:-1] = (np.diff(codes[order]) != 0) | (np.diff(items[order]) != 0)
    order = order[last]
    return _Events(codes[order], items[order], kinds[order], times[order])


def _sequences(events: _Events, first_target: int, last_target: int) -> _Batch:
    """Sequences of at most LENGTH events; targets lie in [first, last) Unix seconds.

    Long histories are cut from their end, so that every event is a target once. Items
    that the sequence already holds are no targets: they are never recommended again.
    """
    users = np.split(np.arange(len(events.users)), np.flatnonzero(np.diff(events.users)) + 1)
    columns: dict[str, list[Int64]] = {n: [] for n in ("items", "kinds", "gaps", "targets")}
    for rows in users:
        rows = rows[events.times[rows] < last_target]
        for end in range(len(rows), 1, -LENGTH):
            window = rows[max(end - LENGTH - 1, 0) : end]
            past, future = window[:-1], window[1:]
            _, first = np.unique(events.items[window], return_index=True)
            asked = np.isin(np.arange(1, len(window)), first)
            asked &= events.times[future] >= first_target
            if not asked.any():
                continue
            gaps = gap_buckets(events.times[past].tolist(), int(events.times[future[-1]]))
            row = (
                events.items[past],
                events.kinds[past],
                gaps,
                np.where(asked, events.items[future], 0),
            )
            for column, values in zip(columns.values(), row, strict=True):
                column.append(np.pad(values, (0, LENGTH - len(values))))
    empty = np.empty((0, LENGTH), np.int64)
    return _Batch(*(torch.from_numpy(np.stack(c) if c else empty) for c in columns.values()))


def _loss(net: SASRec, batch: _Batch, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Cross entropy of the next item over all items, or over a shared sample of many."""
    length = int((batch.items[rows] > 0).sum(1).max())
    states = net(batch.items[rows, :length], batch.kinds[rows, :length], batch.gaps[rows, :length])
    targets = batch.targets[rows, :length]
    states, targets = states[targets > 0], targets[targets > 0]
    table = net.items.weight
    if len(table) - 1 <= FULL_SOFTMAX_ITEMS:
        return nn.functional.cross_entropy(states @ table[1:].T, targets - 1)
    drawn = torch.randint(1, len(table), (NEGATIVES,), generator=generator)
    negative = states @ table[drawn].T
    negative = negative.masked_fill(drawn[None, :] == targets[:, None], float("-inf"))
    positive = (states * table[targets]).sum(1, keepdim=True)
    logits = torch.cat([positive, negative], dim=1)
    return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def _quality(net: SASRec, held: _Batch) -> tuple[float, float]:
    """Mean reciprocal rank and recall at 20 of held-out next items over all items."""
    net.eval()
    ranks = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(held.items)), 64):
            states = net(held.items[rows], held.kinds[rows], held.gaps[rows])
            targets = held.targets[rows]
            logits = states[targets > 0] @ net.items.weight[1:].T
            wanted = logits.gather(1, targets[targets > 0][:, None] - 1)
            ranks.append((logits > wanted).sum(1) + 1)
    rank = torch.cat(ranks).double() if ranks else torch.empty(0, dtype=torch.double)
    if not len(rank):
        return 0.0, 0.0
    return float((1 / rank).mean()), float((rank <= 20).double().mean())


def train(dataset: Dataset, options: TrainOptions) -> TrainedModel:
    """Learns what follows what. ``parameters`` override :data:`DEFAULTS` by name.

    The best epoch on the held-out last tenth of the time is kept. With ``best_epoch`` known from
    an earlier training, all events are learned that often and nothing is held out.

    Raises:
        DataError: no user has two positive events.
    """
    settings = {**DEFAULTS, **{k: v for k, v in options.parameters.items() if k in DEFAULTS}}
    item_ids: list[str] = dataset.items["item_id"].to_pylist()
    events = _positive_events(dataset, options, item_ids)
    if not len(events.times):
        raise DataError("behavioral needs positive events of known items; there are none")
    # An item that nobody wanted yet has no learned vector, so the model does not know it.
    wanted = np.unique(events.items)
    item_ids = [item_ids[item - 1] for item in wanted]
    events = replace(events, items=np.searchsorted(wanted, events.items).astype(np.int64) + 1)
    start, end = int(events.times.min()), int(events.times.max()) + 1
    known_epochs = options.parameters.get("best_epoch")
    split = end if known_epochs else int(np.quantile(events.times, 1 - HELD_OUT))
    batch, held = _sequences(events, start, split), _sequences(events, split, end)
    if not len(batch.items):
        raise DataError("behavioral needs users with two positive events; there are none")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        generator = torch.Generator().manual_seed(options.seed)
        net = SASRec(
            len(item_ids),
            int(settings["dim"]),
            int(settings["blocks"]),
            float(settings["dropout"]),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=float(settings["learning_rate"]))
        best, best_quality, best_epoch = _weights(net), _quality(net, held), 0
        epochs = int(known_epochs or settings["epochs"])

        def learn(batch: _Batch) -> None:
            net.train()
            order = torch.randperm(len(batch.items), generator=generator)
            for rows in torch.split(order, int(settings["batch"])):
                optimizer.zero_grad()
                _loss(net, batch, rows, generator).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

        for epoch in range(1, epochs + 1):
            learn(batch)
            quality = _quality(net, held)
            options.progress(epoch, epochs, f"epochs; held-out MRR {quality[0]:.4f}")
            if quality[0] > best_quality[0] or not len(held.items):
                best, best_quality, best_epoch = _weights(net), quality, epoch
            elif epoch - best_epoch >= int(settings["patience"]):
                break
        if len(held.items):
            # The held-out tenth is the most recent: what serves must have learned it too.
            net.load_state_dict({name: torch.from_numpy(w) for name, w in best.items()})
            everything = _sequences(events, start, end)
            for _ in range(math.ceil(best_epoch * float(settings["refit"]))):
                learn(everything)
            best = _weights(net)
        options.progress(epochs, epochs, f"epochs; best {best_epoch}")

    metrics = {"mrr": best_quality[0], "recall_at_20": best_quality[1]}
    card = ModelCard(
        model="behavioral",
        owner="recmesh maintainers",
        summary="SASRec: the next item from the last 50 positive events",
        dataset_version=dataset.version,
        trained_until=options.until.isoformat() if options.until else "",
        seed=options.seed,
        parameters={**settings, "best_epoch": best_epoch, "early_stopping": metrics},
        limitations=(
            "Knows only items with positive events in training, and users with a history. Its "
            "early-stopping figures chose the epoch, so they flatter it: no held-out metric."
        ),
    )
    return TrainedModel(card=card, tensors=best, strings={"item_ids": item_ids})


def _weights(net: SASRec) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in net.state_dict().items()}
