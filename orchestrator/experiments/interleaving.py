"""Team-draft interleaving: one page of two rankings, each item owned by who picked it.

Radlinski, Kurup & Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008:
in every round a coin says which ranking picks first, and each puts its best item that is not on
the page yet. Clicks count for the team that picked the item, but for slots that are not contested:
where a round begins with both teams' best item left being the same, whose it becomes is the coin's
alone, and so is the round's other slot where their next ones are the same, too. The coin decides
who fills which of a round's contested slots and never which those are, so that readers who click at
random still favour neither ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import InvalidRequestError

Int64 = npt.NDArray[np.int64]
Int8 = npt.NDArray[np.int8]
Bool = npt.NDArray[np.bool_]

NOBODY = -1


@dataclass(frozen=True, slots=True)
class DraftedPages:
    """Pages, best slot first; where both rankings ran out, item and team are -1."""

    items: Int64
    """``[pages, size]``"""
    team: Int8
    """``[pages, size]``: 0 for the first ranking, 1 for the second."""
    contested: Bool
    """``[pages, size]``: whether a click on the slot tells the rankings apart."""

    @property
    def credited(self) -> Int8:
        """The team that a click on the slot speaks for ``[pages, size]``; -1: neither."""
        return np.where(self.contested, self.team, NOBODY).astype(np.int8)


def team_draft(first: Int64, second: Int64, size: int, rng: np.random.Generator) -> DraftedPages:
    """Interleaves two rankings of each page.

    Args:
        first: items of every page by rank ``[pages, n]``, each at most once a row; -1: no more.
        second: the rival's ``[pages, m]``.
        size: slots of a page, at least 1.
        rng: the coin; seed it by the request, so that a replay draws the same page.

    Raises:
        InvalidRequestError: the rankings are of different numbers of pages, or size is below 1.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise InvalidRequestError(
            "second", f"rankings of shape {first.shape} and {second.shape}; pages must be equal"
        )
    if size < 1:
        raise InvalidRequestError("size", f"{size}; at least 1 slot is needed")
    pages = len(first)
    rankings = (first, second)
    same = first[:, :, None] == second[:, None, :]
    gone: tuple[Bool, Bool] = (first < 0, second < 0)
    items = np.full((pages, size), NOBODY, np.int64)
    team = np.full((pages, size), NOBODY, np.int8)
    contested = np.zeros((pages, size), bool)
    picks = np.zeros((pages, 2), np.int64)
    every = np.arange(pages)
    for slot in range(size):
        coin = rng.integers(0, 2, pages)
        turn = np.where(picks[:, 0] == picks[:, 1], coin, np.argmin(picks, axis=1))
        left = np.stack([~gone[0].all(axis=1), ~gone[1].all(axis=1)], axis=1)
        turn = np.where(left[every, turn], turn, 1 - turn)
        tops = [_top(rankings[side], gone[side], left[:, side]) for side in (0, 1)]
        contested[:, slot] = tops[0] != tops[1]
        if slot:
            # Of a round whose teams wanted different items each has put its own.
            begun = picks[:, 0] != picks[:, 1]
            contested[:, slot] |= begun & contested[:, slot - 1]
        for side in (0, 1):
            rows = np.flatnonzero((turn == side) & left[:, side])
            at = np.argmin(gone[side][rows], axis=1)
            items[rows, slot] = rankings[side][rows, at]
            team[rows, slot] = side
            picks[rows, side] += 1
            gone[side][rows, at] = True
            gone[1 - side][rows] |= same[rows, at, :] if side == 0 else same[rows, :, at]
    return DraftedPages(items, team, contested)


def _top(ranking: Int64, gone: Bool, left: Bool) -> Int64:
    """The best item of every page that is not on it yet ``[pages]``; -1: there is none."""
    at = np.argmin(gone, axis=1)
    return np.where(left, ranking[np.arange(len(ranking)), at], NOBODY)
