"""What the orchestrator knows of every user: profile, recent events, connections.

One immutable snapshot, columnar, built from ingested data; what callers wrote since lies
over it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import ErasedUsers
from recmesh.storage.interchange import EVENT_TYPES

HISTORY_LENGTH = 128
"""Most recent events that models are given."""

SHOWN_TO_MODELS = ("click", "dwell", "save", "share", "dismiss", "swipe")


@dataclass(frozen=True, slots=True)
class UserProfile:
    """One user at the time of the snapshot. Histories are oldest first."""

    user_id: str
    known: bool
    specialties: tuple[str, ...] = ()
    country: str = ""
    language: str = ""
    consents_personalisation: bool = False
    consents_sponsored: bool = False
    history_item_ids: tuple[str, ...] = ()
    history_event_types: tuple[int, ...] = ()
    history_times_unix_s: tuple[int, ...] = ()
    connected_user_ids: tuple[str, ...] = ()
    """Users this one already follows or is tied to."""


@dataclass(frozen=True)
class _Rows:
    """Rows of a table grouped by user: group ``i`` is ``order[start[i]:start[i + 1]]``."""

    order: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]

    @classmethod
    def by(cls, users: pa.ChunkedArray, user_ids: pa.Array) -> _Rows:
        codes = pc.fill_null(pc.index_in(users, value_set=user_ids), len(user_ids)).to_numpy()
        order = np.argsort(codes, kind="stable").astype(np.int64)
        start = np.searchsorted(codes[order], np.arange(len(user_ids) + 1)).astype(np.int64)
        return cls(order, start)

    def of(self, user: int) -> npt.NDArray[np.int64]:
        return self.order[self.start[user] : self.start[user + 1]]


class UserStore:
    """Profiles and histories by user id. Lookups cost microseconds and never block."""

    def __init__(self, dataset: Dataset) -> None:
        users = dataset.users
        events = dataset.events.filter(
            pc.is_in(dataset.events["event_type"], value_set=pa.array(SHOWN_TO_MODELS))
        )
        edges = dataset.edges
        # Users may act before anybody has described them.
        everybody = pc.unique(
            pa.chunked_array(
                [
                    *users["user_id"].chunks,
                    *events["user_id"].chunks,
                    *edges["source_user_id"].chunks,
                ],
                pa.string(),
            )
        )
        self._row = {user_id: row for row, user_id in enumerate(everybody.to_pylist())}
        self._described = len(users)
        self._specialties = [tuple(s) for s in users["specialties"].to_pylist()]
        self._countries = users["country"].to_pylist()
        self._languages = users["language"].to_pylist()
        self._personalise = users["consents_personalisation"].to_pylist()
        self._sponsored = users["consents_sponsored"].to_pylist()
        self._events = _Rows.by(events["user_id"], everybody)
        items = events["item_id"].combine_chunks().dictionary_encode()
        self._item_ids: list[str] = items.dictionary.to_pylist()
        self._item_codes = items.indices.to_numpy().astype(np.int64)
        numbers = pa.array(list(EVENT_TYPES.values()))
        names = pa.array(list(EVENT_TYPES))
        self._types = pc.take(numbers, pc.index_in(events["event_type"], value_set=names))
        self._event_types = self._types.to_numpy().astype(np.int64)
        self._times = (pc.cast(events["time"], pa.int64()).to_numpy() // 1000).astype(np.int64)
        self._edges = _Rows.by(edges["source_user_id"], everybody)
        self._targets: list[str] = edges["target_user_id"].to_pylist()
        self._written: Mapping[str, UserProfile] = {}
        self._new_ties: Mapping[str, Sequence[str]] = {}
        self._erased = ErasedUsers()

    def __len__(self) -> int:
        return len(self._row)

    @property
    def user_ids(self) -> list[str]:
        """Everybody who was ingested, described or not."""
        return list(self._row)

    @property
    def erased(self) -> ErasedUsers:
        """Users who are unknown from now on, whatever is known of them elsewhere."""
        return self._erased

    def with_written(
        self,
        profiles: Mapping[str, UserProfile],
        new_ties: Mapping[str, Sequence[str]],
        erased: ErasedUsers,
    ) -> UserStore:
        """A store that knows what callers wrote, too. Shares everything else with this one.

        Args:
            profiles: by user id, without histories and connections; they replace ingested ones.
            new_ties: whom a user is tied to by edges that were not ingested.
            erased: users who are unknown from now on.
        """
        other = copy.copy(self)
        other._written, other._new_ties, other._erased = profiles, new_ties, erased
        return other

    def get(self, user_id: str) -> UserProfile:
        """The user's profile; an unknown user's is empty.

        A user who does not consent to personalisation is given no history.
        """
        if user_id in self._erased:
            return UserProfile(user_id=user_id, known=False)
        row, written = self._row.get(user_id), self._written.get(user_id)
        new_ties = tuple(self._new_ties.get(user_id, ()))
        if row is None:
            if written is None and not new_ties:
                return UserProfile(user_id=user_id, known=False)
            profile = written or self._described_as(user_id, None)
            return replace(profile, connected_user_ids=new_ties)
        profile = written or self._described_as(user_id, row)
        events = self._events.of(row)[-HISTORY_LENGTH:]
        if not profile.consents_personalisation:
            events = events[:0]
        ids = self._item_ids
        ties = tuple(self._targets[e] for e in self._edges.of(row).tolist())
        return replace(
            profile,
            history_item_ids=tuple(ids[code] for code in self._item_codes[events].tolist()),
            history_event_types=tuple(self._event_types[events].tolist()),
            history_times_unix_s=tuple(self._times[events].tolist()),
            connected_user_ids=ties + new_ties,
        )

    def _described_as(self, user_id: str, row: int | None) -> UserProfile:
        """The ingested profile; who acted before anybody described them may be personalised."""
        if row is None or row >= self._described:
            return UserProfile(user_id=user_id, known=True, consents_personalisation=True)
        return UserProfile(
            user_id=user_id,
            known=True,
            specialties=self._specialties[row],
            country=self._countries[row],
            language=self._languages[row],
            consents_personalisation=self._personalise[row],
            consents_sponsored=self._sponsored[row],
        )
