"""What was known at a moment, and what users wanted after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmesh.models.interactions import Interactions, read_interactions
from recmesh.models.model import Int64
from recmesh.offline.evaluation.temporal_split import EarlierDataset
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError


@dataclass(frozen=True)
class Period:
    """A stretch of time to be predicted from what came before it.

    The catalogue is the items with a positive event before the period. ``users`` are all
    who want at least one of its items, that they had not touched before, in the period.
    """

    known: EarlierDataset
    """The data set as it was when the period began."""
    end: datetime
    """Just after it."""
    catalogue: list[str]
    """Item ids, sorted."""
    users: list[str]
    """User ids, sorted."""
    past: Interactions
    """Every positive event before the period, of all users; its item positions are not the
    catalogue's."""
    seen: sparse.csr_matrix
    """Positive events before the period, bool ``[users, catalogue]``."""
    wanted: sparse.csr_matrix
    """First positive events of the period, bool ``[users, catalogue]``."""
    wanted_new: Int64
    """Wanted items outside the catalogue ``[users]``."""
    users_wanting_only_new: int
    """Users with history or without, who want nothing but new items; not among ``users``."""
    known_users_wanting_only_new: int
    """Those of them with a history."""
    share_of_new: float
    """First positive events of the period, of all users, that are on items outside the
    catalogue, in [0, 1]."""

    @property
    def now_unix_s(self) -> int:
        """The moment of all requests: the period's start."""
        return int(self.known.moment.timestamp())

    @cached_property
    def history(self) -> sparse.csr_matrix:
        """``seen`` of the users who consent to personalisation; empty rows for others."""
        profiles = self.known.users
        refusing = {
            user
            for user, consents in zip(
                profiles["user_id"].to_pylist(),
                profiles["consents_personalisation"].to_pylist(),
                strict=True,
            )
            if not consents
        }
        consenting = sparse.diags([0.0 if user in refusing else 1.0 for user in self.users])
        history = sparse.csr_matrix(consenting @ self.seen.astype(np.float32))
        history.eliminate_zeros()
        return history

    @cached_property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Users with a history that may be used ``[users]``."""
        return np.asarray(np.diff(self.history.indptr) > 0, np.bool_)

    @cached_property
    def past_matrix(self) -> sparse.csr_matrix:
        """Positive events before the period, float32 ``[all past users, catalogue]``."""
        ones = self.past.matrix(np.ones(len(self.past), np.float32))
        return ones[:, np.unique(self.past.items)]

    @cached_property
    def past_columns(self) -> Int64:
        """Catalogue positions of ``past``'s events."""
        return np.searchsorted(np.unique(self.past.items), self.past.items).astype(np.int64)


def period(dataset: Dataset, start: datetime, end: datetime) -> Period:
    """The period from ``start`` until before ``end``.

    Raises:
        DataError: nobody wanted a known item in it.
    """
    events = read_interactions(dataset, end)
    late = events.times_unix_s >= int(start.timestamp())
    past, future = events.where(~late), events.where(late)
    catalogue = np.unique(past.items)
    users = np.unique(future.users)
    before = past.matrix(np.ones(len(past), np.float32))[users] > 0
    during = future.matrix(np.ones(len(future), np.float32))[users] > 0
    fresh = during > before
    wanted = fresh[:, catalogue]
    n_wanted, n_fresh = np.diff(wanted.indptr), np.diff(fresh.indptr)
    kept = n_wanted > 0
    if not kept.any():
        raise DataError(f"nobody wanted an item known before {start:%Y-%m-%d} until {end:%Y-%m-%d}")
    only_new = (n_fresh > 0) & ~kept
    return Period(
        known=EarlierDataset.of(dataset, start),
        end=end,
        catalogue=[events.item_ids[i] for i in catalogue],
        users=[events.user_ids[u] for u in users[kept]],
        past=past,
        seen=before[kept][:, catalogue],
        wanted=wanted[kept],
        wanted_new=(n_fresh - n_wanted)[kept].astype(np.int64),
        users_wanting_only_new=int(only_new.sum()),
        known_users_wanting_only_new=int((only_new & (np.diff(before.indptr) > 0)).sum()),
        share_of_new=float(1 - n_wanted.sum() / n_fresh.sum()),
    )
