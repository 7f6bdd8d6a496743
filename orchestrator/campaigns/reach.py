"""Whom campaigns can reach, and how many impressions that is worth in a day.

A fluid model: a user opens pages at an even rate, each with room for some sponsored slots, and
gives no campaign more than its frequency cap, nor two slots of a page. What all campaigns can be
given together is then a linear program: as large a part of their demands as there is room for.
It knows nothing of relevance, and so is the most that can be hoped for.
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


def deliverable_per_day(
    book: CampaignBook,
    audiences: Audiences,
    wanted_per_day: Float64,
    caps_per_day: npt.NDArray[np.int64],
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
    kinds = np.vstack([reached, often]).astype(np.int16)
    groups, of_user = np.unique(kinds, axis=1, return_inverse=True)
    users = np.bincount(of_user.ravel()).astype(np.float64)
    pages = np.bincount(of_user.ravel(), weights=audiences.pages_per_day)
    # One variable for every group that a campaign reaches.
    campaign, group = np.nonzero(groups[:-1])
    wanted = wanted_per_day[taking]
    at = np.arange(len(campaign))
    ones = np.ones(len(campaign))
    limits = sparse.vstack(
        [
            sparse.csr_matrix((ones, (campaign, at)), (len(taking), len(at))),
            sparse.csr_matrix((ones, (group, at)), (len(users), len(at))),
        ]
    )
    most = np.minimum(caps_per_day[taking][campaign] * users[group], pages[group])
    found = linprog(
        -1.0 / wanted[campaign],
        A_ub=limits,
        b_ub=np.concatenate([wanted, pages * sponsored_per_page]),
        bounds=np.column_stack([np.zeros(len(at)), most]),
        method="highs",
    )
    given[taking] = np.bincount(campaign, weights=found.x, minlength=len(taking))
    return given
