"""Whom campaigns can reach, and how many impressions that is worth in a day.

Users open pages at random moments, each at a rate of their own (a Poisson process), and give a
campaign one slot of a page, but none while they had as many as its cap within 24 hours. What a
user can give is then what Erlang's loss formula says: pages are calls, and each that is answered
keeps one of ``cap`` lines busy for a day. It holds whatever the times between impressions are
(Sevastyanov, Theory of Probability and its Applications 1957).

What all campaigns can be given together is a linear program over the averages: as large a part of
their demands as there is room for. Relevance is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from scipy.optimize import linprog

from recmesh.orchestrator.campaigns.campaign_book import Bool, CampaignBook
from recmesh.orchestrator.catalog import TermSets

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Audiences:
    """All users, columnar, with what they are targeted by; rows correspond ``[users]``."""

    specialties: TermSets
    countries: TermSets
    languages: TermSets
    consents: Bool
    pages_per_day: Float64

    @classmethod
    def of(cls, users: pa.Table, impressions: pa.Table, days: float, page_size: int) -> Audiences:
        """From the interchange format.

        Args:
            users: to be reached.
            impressions: column ``user_id``: what was shown in the last days.
            days: over which they were counted, > 0.
            page_size: impressions that make a page.
        """
        ids = users["user_id"].combine_chunks()
        rows = pc.drop_null(pc.index_in(impressions["user_id"], value_set=ids))
        shown = np.bincount(rows.to_numpy().astype(np.int64), minlength=len(ids))
        return cls(
            specialties=TermSets.of(users["specialties"]),
            countries=TermSets.of(users["country"]),
            languages=TermSets.of(users["language"]),
            consents=users["consents_sponsored"].to_numpy().astype(bool),
            pages_per_day=shown / page_size / days,
        )

    def reached_by(self, book: CampaignBook) -> Bool:
        """Who is reached by which campaign's targeting and by consent ``[campaigns, users]``."""
        rows = np.arange(len(self.consents), dtype=np.int32)
        reached = np.tile(self.consents, (len(book), 1))
        for wanted, own in (
            (book.specialties, self.specialties),
            (book.countries, self.countries),
            (book.languages, self.languages),
        ):
            for row in range(len(book)):
                terms = wanted.terms(row)
                if terms:
                    reached[row] &= own.overlaps(rows, terms)
        return reached


def slots_per_day(pages_per_day: Float64, cap: int) -> Float64:
    """Slots of a campaign that users have room for in a day, on average ``[users]``.

    Args:
        pages_per_day: that each opens, ≥ 0.
        cap: impressions of the campaign within any 24 hours, ≥ 0.
    """
    lost = np.ones_like(pages_per_day)
    for lines in range(1, cap + 1):
        if not lost.any():
            break
        lost = pages_per_day * lost / (lines + pages_per_day * lost)
        lost[lost < 1e-12] = 0.0
    return pages_per_day * (1.0 - lost)


def room_per_day(book: CampaignBook, audiences: Audiences, caps_per_day: Int64) -> Float64:
    """Impressions that each campaign could be given in a day, were it alone ``[campaigns]``.

    Args:
        book: all campaigns.
        audiences: all users.
        caps_per_day: by campaign.
    """
    reached = audiences.reached_by(book)
    room = np.zeros(len(book))
    for cap in np.unique(caps_per_day).tolist():
        capped = caps_per_day == cap
        room[capped] = reached[capped] @ slots_per_day(audiences.pages_per_day, cap)
    return room


def deliverable_per_day(
    book: CampaignBook,
    audiences: Audiences,
    wanted_per_day: Float64,
    caps_per_day: Int64,
    sponsored_per_page: int,
) -> Float64:
    """Impressions that campaigns can be given in a day, all together ``[campaigns]``.

    Args:
        book: all campaigns.
        audiences: all users.
        wanted_per_day: by campaign, ≥ 0; nothing is given beyond it.
        caps_per_day: by campaign.
        sponsored_per_page: most sponsored slots of a page.
    """
    given = np.zeros(len(book))
    taking = np.flatnonzero(wanted_per_day > 0)
    reached = audiences.reached_by(book)[taking] & (audiences.pages_per_day > 0)
    if not reached.any():
        return given
    # Users whom the same campaigns reach, and who come about as often, are one to the program.
    often = np.frexp(audiences.pages_per_day)[1]
    first, of_user = _kinds(reached, often)
    pages = np.bincount(of_user, weights=audiences.pages_per_day)
    caps = caps_per_day[taking]
    most = np.empty((len(taking), len(first)))
    for cap in np.unique(caps).tolist():
        slots = slots_per_day(audiences.pages_per_day, cap)
        most[caps == cap] = np.bincount(of_user, weights=slots)
    # One variable for every group that a campaign reaches.
    campaign, group = np.nonzero(reached[:, first])
    wanted = wanted_per_day[taking]
    at = np.arange(len(campaign))
    ones = np.ones(len(campaign))
    limits = sparse.vstack(
        [
            sparse.csr_matrix((ones, (campaign, at)), (len(taking), len(at))),
            sparse.csr_matrix((ones, (group, at)), (len(first), len(at))),
        ]
    )
    found = linprog(
        -1.0 / wanted[campaign],
        A_ub=limits,
        b_ub=np.concatenate([wanted, pages * sponsored_per_page]),
        bounds=np.column_stack([np.zeros(len(at)), most[campaign, group]]),
        method="highs",
    )
    given[taking] = np.bincount(campaign, weights=found.x, minlength=len(taking))
    return given


def _kinds(reached: Bool, often: Int32) -> tuple[Int64, Int64]:
    """Users of a kind are those whom the same campaigns reach, and who come about as often.

    Returns:
        The first user of every kind ``[kinds]``, and the kind of every user ``[users]``.
    """
    # One string of bytes a user: sorting these is faster than sorting columns.
    octets = np.vstack([np.packbits(reached, axis=0), (often & 0xFF).astype(np.uint8)])
    keys = np.ascontiguousarray(octets.T).view(f"V{len(octets)}").ravel()
    _, first, of_user = np.unique(keys, return_index=True, return_inverse=True)
    return first.astype(np.int64), of_user.astype(np.int64)
