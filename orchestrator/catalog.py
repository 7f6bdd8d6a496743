"""What ranking needs to know of every item, columnar.

One immutable snapshot: a request takes it once. Rows are positions in the arrays; the
orchestrator works on rows and turns them back to ids only in its answer. On the network
surface the items are doctors, in a catalog of their own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.dataset import Dataset
from recmesh.storage.interchange import POSITIVE_EVENT_TYPES
from recmesh.storage.unix_time import NEVER_UNIX_S, UNKNOWN_UNIX_S, unix_s

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

DEFAULT_POPULARITY_HALF_LIFE_DAYS = 14.0


@dataclass(frozen=True)
class TermSets:
    """For every row a set of small vocabulary terms, as bits.

    ``bits`` is uint64 ``[n_rows, n_words]``. A set is empty when it does not narrow.
    """

    vocabulary: dict[str, int]
    bits: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> TermSets:
        """From a list<string> column, or a string column whose empty values mean none."""
        rows = len(column)
        if pa.types.is_list(column.type):
            parents = pc.list_parent_indices(column.combine_chunks()).to_numpy()
            flat = pc.list_flatten(column.combine_chunks())
        else:
            parents = np.arange(rows)
            flat = column.combine_chunks()
        encoded = flat.dictionary_encode()
        terms = encoded.dictionary.to_pylist()
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        bits = np.zeros((rows, max(1, -(-len(terms) // 64))), np.uint64)
        filled = np.array([bool(t) for t in terms], bool)[codes] if len(terms) else codes == -1
        parents, codes = parents[filled], codes[filled]
        np.bitwise_or.at(
            bits,
            (parents, codes // 64),
            np.left_shift(np.uint64(1), (codes % 64).astype(np.uint64)),
        )
        return cls({t: i for i, t in enumerate(terms) if t}, bits)

    @cached_property
    def names(self) -> dict[int, str]:
        """Term of every bit."""
        return {bit: term for term, bit in self.vocabulary.items()}

    def mask(self, terms: list[str] | tuple[str, ...]) -> npt.NDArray[np.uint64]:
        """The terms as bits ``[n_words]``; unknown terms match nothing."""
        mask = np.zeros(self.bits.shape[1], np.uint64)
        for term in terms:
            code = self.vocabulary.get(term)
            if code is not None:
                mask[code // 64] |= np.uint64(1) << np.uint64(code % 64)
        return mask

    def overlaps(self, rows: Int32, terms: list[str] | tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Rows whose set shares a term with ``terms`` ``[len(rows)]``."""
        return np.asarray((self.bits[rows] & self.mask(terms)).any(axis=1), np.bool_)

    def empty(self, rows: Int32) -> npt.NDArray[np.bool_]:
        """Rows whose set has no term ``[len(rows)]``."""
        return np.asarray(~self.bits[rows].any(axis=1), np.bool_)

    def terms(self, row: int) -> list[str]:
        """The set of a row."""
        words = self.bits[row].tolist()
        return [t for t, i in self.vocabulary.items() if words[i // 64] >> (i % 64) & 1]


def unpacked(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Sets of terms ``[..., n_words]`` as 0 and 1 ``[..., 64 · n_words]``; place i is term i."""
    octets = np.ascontiguousarray(bits, "<u8").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little")


def name_codes(names: pa.ChunkedArray) -> Int64:
    """A code for the first name of every row's list ``[n_rows]``; 0: there is none.

    Codes are hashes (BLAKE2b), so that equal names have equal codes in all catalogs.
    """
    lists = names.combine_chunks()
    first = pc.list_flatten(pc.list_slice(lists, 0, 1)).dictionary_encode()
    digests = [
        hashlib.blake2b(name.encode(), digest_size=8).digest() if name else bytes(8)
        for name in first.dictionary.to_pylist()
    ]
    codes = np.zeros(len(lists), np.int64)
    has_one = pc.list_value_length(lists).to_numpy(zero_copy_only=False) > 0
    numbers = np.frombuffer(b"".join(digests), np.int64)
    codes[has_one] = numbers[first.indices.to_numpy(zero_copy_only=False)]
    return codes


@dataclass(frozen=True)
class Catalog:
    """All items of one universe. Arrays are aligned and have one entry a row."""

    version: str
    item_ids: list[str]
    titles: list[str]
    content_types: TermSets
    topics: TermSets
    specialties: TermSets
    countries: TermSets
    languages: TermSets
    off_label: TermSets
    """Countries in which the use that it speaks of is not approved."""
    sponsors: list[str]
    """Who paid for its making; empty: nobody."""
    lead_author: Int64
    """Code of the first author's name; 0: nobody is named."""
    published_unix_s: Int64
    """0: unknown."""
    expires_unix_s: Int64
    """``NEVER_UNIX_S``: never."""
    popularity: Float32
    """Positive events, each halved for every half-life of its age."""

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of every item id."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def novelty(self) -> Float32:
        """Self-information of popularity, scaled to [0, 1]; 1 for the never seen."""
        share = (self.popularity + 1.0) / (float(self.popularity.sum()) + max(len(self), 1))
        information = -np.log2(share)
        top = float(information.max()) if len(self) else 1.0
        return np.asarray(information / max(top, 1e-9), np.float32)

    @cached_property
    def popular_rows(self) -> Int32:
        """All rows, most popular first; ties by row."""
        return np.argsort(-self.popularity, kind="stable").astype(np.int32)

    @cached_property
    def popular_scores(self) -> Float32:
        """Popularity as a score in [0, 1] for every row: :func:`log_scaled`."""
        return log_scaled(self.popularity)

    @cached_property
    def fresh_rows(self) -> Int32:
        """Rows of known age, newest first; ties by row."""
        order = np.argsort(-self.published_unix_s, kind="stable").astype(np.int32)
        return order[self.published_unix_s[order] > 0]

    def language(self, row: int) -> str:
        """ISO 639-1 language of an item; empty: unknown."""
        return next(iter(self.languages.terms(row)), "")

    def prepare(self) -> None:
        """Computes now what is otherwise computed when it is first asked for."""
        _ = self.row_of, self.novelty, self.popular_rows, self.popular_scores, self.fresh_rows

    def __len__(self) -> int:
        return len(self.item_ids)

    def rows(self, item_ids: list[str]) -> Int32:
        """Rows of ids; -1 for unknown ones."""
        return np.fromiter(
            map(self.row_of.get, item_ids, [-1] * len(item_ids)), np.int32, len(item_ids)
        )


def log_scaled(popularity: Float32) -> Float32:
    """Decayed counts ``[n]`` as scores in [0, 1]; the most popular gets 1."""
    top = float(popularity.max()) if len(popularity) else 0.0
    return np.asarray(np.log1p(popularity) / max(float(np.log1p(top)), 1e-9), np.float32)


def recent_popularity(events: pa.Table, ids: list[str], half_life_days: float) -> Float32:
    """Positive events per id ``[len(ids)]``, decayed by age before the last event of all.

    So an id's value does not depend on the other ids.
    """
    positive = events.filter(
        pc.is_in(events["event_type"], value_set=pa.array(sorted(POSITIVE_EVENT_TYPES)))
    )
    rows = pc.index_in(positive["item_id"], value_set=pa.array(ids, pa.string()))
    known = pc.is_valid(rows).to_numpy(zero_copy_only=False)
    if not known.any():
        return np.zeros(len(ids), np.float32)
    at = unix_s(positive["time"], UNKNOWN_UNIX_S)
    age_days = (at.max() - at[known]) / 86_400.0
    index = rows.filter(pc.is_valid(rows)).to_numpy().astype(np.int64)
    decayed = np.exp2(-age_days / half_life_days)
    return np.bincount(index, decayed, minlength=len(ids)).astype(np.float32)


def content_catalog(version: str, items: pa.Table, popularity: Float32) -> Catalog:
    """The catalog of these items; ``popularity`` is aligned with them."""
    return Catalog(
        version=version,
        item_ids=items["item_id"].to_pylist(),
        titles=items["title"].to_pylist(),
        content_types=TermSets.of(items["content_type"]),
        topics=TermSets.of(items["topics"]),
        specialties=TermSets.of(items["specialties"]),
        countries=TermSets.of(items["countries"]),
        languages=TermSets.of(items["language"]),
        off_label=TermSets.of(items["off_label_countries"]),
        sponsors=items["sponsor"].to_pylist(),
        lead_author=name_codes(items["authors"]),
        published_unix_s=unix_s(items["published_at"], UNKNOWN_UNIX_S),
        expires_unix_s=unix_s(items["expires_at"], NEVER_UNIX_S),
        popularity=popularity,
    )


def item_catalog(
    dataset: Dataset, popularity_half_life_days: float = DEFAULT_POPULARITY_HALF_LIFE_DAYS
) -> Catalog:
    """The catalog of content."""
    ids = dataset.items["item_id"].to_pylist()
    popularity = recent_popularity(dataset.events, ids, popularity_half_life_days)
    return content_catalog(dataset.version, dataset.items, popularity)


def doctor_catalog(version: str, users: pa.Table, popularity: Float32) -> Catalog:
    """The catalog of these doctors; ``popularity`` is aligned with them."""
    ids = users["user_id"].to_pylist()
    nothing = pa.chunked_array([pa.array([[]] * len(ids), pa.list_(pa.string()))])
    return Catalog(
        version=version,
        item_ids=ids,
        titles=[", ".join(s) or "doctor" for s in users["specialties"].to_pylist()],
        content_types=TermSets.of(nothing),
        topics=TermSets.of(users["specialties"]),
        specialties=TermSets.of(users["specialties"]),
        countries=TermSets.of(nothing),
        languages=TermSets.of(users["language"]),
        off_label=TermSets.of(nothing),
        sponsors=[""] * len(ids),
        lead_author=np.zeros(len(ids), np.int64),
        published_unix_s=np.zeros(len(ids), np.int64),
        expires_unix_s=np.full(len(ids), NEVER_UNIX_S, np.int64),
        popularity=popularity,
    )


def in_degree(edges: pa.Table, ids: list[str]) -> Float32:
    """How many edges lead to each id ``[len(ids)]``."""
    targets = pc.index_in(edges["target_user_id"], value_set=pa.array(ids, pa.string()))
    return np.bincount(
        pc.drop_null(targets).to_numpy().astype(np.int64), minlength=len(ids)
    ).astype(np.float32)


def user_catalog(dataset: Dataset) -> Catalog:
    """The catalog of doctors: what the network surface recommends."""
    ids = dataset.users["user_id"].to_pylist()
    return doctor_catalog(dataset.version, dataset.users, in_degree(dataset.edges, ids))
