"""Erases users from files: the data set, its quarantine, and trained models.

Everything here is found by the hashes of erased ids, so that an erasure that was interrupted
is completed without anybody naming the ids again.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import USER_COLUMNS, ErasedUsers, texts_of
from recmesh.storage.errors import NotFoundError
from recmesh.storage.frozen_dataset import FrozenDataset
from recmesh.storage.home import Home
from recmesh.storage.ingest import QUARANTINE, rewrite

_WORD_BYTE = re.compile(rb"\w")


@dataclass(frozen=True, slots=True)
class ErasureCheck:
    """What a search for ids found in one store."""

    store: str
    remaining: int
    """Places that hold one of the ids."""
    note: str = ""


def erase_from_files(home: Home, erased: ErasedUsers) -> list[str]:
    """Rewrites every file that names an erased user.

    Returns:
        Models whose artifacts named one.

    Raises:
        UnavailableError: an ingest is writing the data set; try again.
    """
    if not erased.hashes:
        return []
    # Before the artifacts: what is published after this, whoever trained it sees that it is gone.
    FrozenDataset(home.retraining_data).erase(erased)
    if home.dataset.is_dir():
        rewrite(home.dataset, erased.without)
        for file in _quarantine(home):
            _erase_lines(file, erased)
    return ArtifactStore(home.artifacts).replace_strings(
        lambda text, row: f"erased-{row}" if text in erased else text
    )


def _quarantine(home: Home) -> list[Path]:
    return sorted((home.dataset / QUARANTINE).glob("*.jsonl"))


def _erase_lines(file: Path, erased: ErasedUsers) -> None:
    lines = file.read_text().splitlines()
    kept = [line for line in lines if not erased.named_in(json.loads(line))]
    if len(kept) < len(lines):
        pending = file.with_suffix(".erasing")
        pending.write_text("".join(f"{line}\n" for line in kept))
        pending.replace(file)


def checked_files(home: Home, user_ids: Sequence[str], held: Iterable[str]) -> list[ErasureCheck]:
    """Searches data set, quarantine and artifacts. ``held``: models that named a user."""
    wanted = set(user_ids)
    checks = [_checked_dataset(home, user_ids)]
    quarantined = sum(
        not wanted.isdisjoint(texts_of(json.loads(line)))
        for file in _quarantine(home)
        for line in file.read_text().splitlines()
    )
    checks.append(ErasureCheck("quarantine", quarantined))
    store = ArtifactStore(home.artifacts)
    found = sum(store.count_strings(wanted).values())
    return [*checks, ErasureCheck("artifacts", found, _to_retrain(store, held))]


def _to_retrain(store: ArtifactStore, held: Iterable[str]) -> str:
    trained = [model for model in store.models() if store.has_live(model)]
    if not trained:
        return ""
    named = ", ".join(sorted(held))
    scrubbed = (
        f"ids taken out of {named}; replicas that run have them until retrained; "
        if (named)
        else ""
    )
    return (
        f"{scrubbed}to be retrained, because what users did shaped their weights: "
        f"{', '.join(trained)}; run: recmesh train && recmesh up"
    )


def _checked_dataset(home: Home, user_ids: Sequence[str]) -> ErasureCheck:
    try:
        current = set(Dataset.open(home.dataset).files.values())
    except NotFoundError:
        return ErasureCheck("data set", 0, "nothing was ingested")
    wanted = pa.array(user_ids, pa.string())
    remaining = 0
    for file in {*current, *home.dataset.glob("*.parquet")}:
        columns = USER_COLUMNS.get(file.name.partition("-")[0], ())
        table = pq.read_table(file, columns=list(columns))
        for column in columns:
            remaining += int(pc.sum(pc.is_in(table[column], value_set=wanted)).as_py() or 0)
    return ErasureCheck("data set", remaining, "future training reads this")


def search_files(home: Home, user_ids: Sequence[str]) -> list[ErasureCheck]:
    """Reads every file of the home folder for the ids as whole words, byte by byte.

    Compressed columns of Parquet are not readable this way: :func:`checked_files` reads them.
    """
    wanted = [user_id.encode() for user_id in user_ids]
    files = [file for file in sorted(home.root.rglob("*")) if file.is_file()]
    holders = [file for file in files if file.stat().st_size and _holds(file, wanted)]
    note = f"{len(files)} files read"
    if holders:
        names = ", ".join(str(file.relative_to(home.root)) for file in holders)
        note = f"{note}; not RecMesh's own to rewrite: {names}"
    return [ErasureCheck(f"files in {home.root}", len(holders), note)]


def _holds(file: Path, wanted: Sequence[bytes]) -> bool:
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for word in wanted:
            at = content.find(word)
            while at >= 0:
                around = content[max(at - 1, 0) : at], content[at + len(word) : at + len(word) + 1]
                if not any(_WORD_BYTE.match(byte) for byte in around):
                    return True
                at = content.find(word, at + 1)
    return False
