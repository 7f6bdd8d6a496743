"""What each metric means, which way is better, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Description:
    """A metric, for people."""

    metric: str
    """Its id in reports."""
    label: str
    """``{k}`` stands for the length of the page."""
    unit: str
    better: Literal["higher", "lower", "nearer 0", "neither"]
    """``neither``: it depends on what is wanted."""
    meaning: str
    source: str
    family: str


DESCRIPTIONS: tuple[Description, ...] = (
    Description(
        "ndcg",
        "nDCG@{k}",
        "0 to 1",
        "higher",
        "How near the wanted items are to the top, against the best order possible.",
        "Järvelin & Kekäläinen 2002",
        "Relevance",
    ),
    Description(
        "recall",
        "recall@{k}",
        "0 to 1",
        "higher",
        "Share of what a doctor wanted that is on the page.",
        "",
        "Relevance",
    ),
    Description(
        "mrr",
        "MRR@{k}",
        "0 to 1",
        "higher",
        "1 / rank of the first wanted item; 0 without one.",
        "Voorhees 1999",
        "Relevance",
    ),
    Description(
        "hit_rate",
        "hit rate@{k}",
        "0 to 1",
        "higher",
        "Share of doctors who find at least one wanted item on the page.",
        "",
        "Relevance",
    ),
    Description(
        "diversity",
        "diversity",
        "0 to 1",
        "higher",
        "How different the items of one page are from each other: intra-list distance.",
        "Smyth & McClave 2001",
        "Variety",
    ),
    Description(
        "novelty",
        "novelty",
        "bits",
        "higher",
        "How few doctors have turned to the shown items so far: mean self-information.",
        "Vargas & Castells 2011",
        "Variety",
    ),
    Description(
        "serendipity",
        "serendipity@{k}",
        "0 to 1",
        "higher",
        "Share of the slots with a wanted item that the most popular items would not have shown.",
        "Ge, Delgado-Battenfeld & Jannach 2010",
        "Variety",
    ),
    Description(
        "miscalibration",
        "miscalibration",
        "bits",
        "lower",
        "How far the page's topics are from those of the doctor's history, in proportion.",
        "Steck 2018",
        "Variety",
    ),
    Description(
        "coverage",
        "coverage@{k}",
        "0 to 1",
        "higher",
        "Share of the catalogue that is on anybody's page.",
        "Herlocker et al. 2004",
        "Exposure",
    ),
    Description(
        "exposure_gini",
        "exposure Gini",
        "0 to 1",
        "lower",
        "How unevenly attention is shared out among items; 0: evenly.",
        "Fleder & Hosanagar 2009",
        "Exposure",
    ),
    Description(
        "popularity",
        "mean popularity",
        "0 to 1",
        "neither",
        "Share of all doctors who have turned to a shown item so far, on average.",
        "Abdollahpouri, Burke & Mobasher 2019",
        "Exposure",
    ),
    Description(
        "popularity_lift",
        "popularity lift",
        "ratio − 1",
        "nearer 0",
        "How much more popular pages are than what doctors turned to themselves; 1: twice.",
        "Abdollahpouri et al. 2020",
        "Exposure",
    ),
    Description(
        "popularity_deviation",
        "popularity deviation",
        "0 to 1",
        "lower",
        "How far the page's mix of popular, middling and rare is from the doctor's own.",
        "Abdollahpouri et al. 2021",
        "Exposure",
    ),
    Description(
        "author_inequity",
        "author inequity",
        "0 to 1",
        "lower",
        "Exposure that other lead authors would have, were it given by what doctors wanted.",
        "Biega et al. 2018; Singh & Joachims 2018",
        "Exposure",
    ),
    Description(
        "sponsor_inequity",
        "sponsor inequity",
        "0 to 1",
        "lower",
        "The same among the sponsors of sponsored content.",
        "Biega et al. 2018; Singh & Joachims 2018",
        "Exposure",
    ),
    Description(
        "freshness",
        "freshness",
        "0 to 1",
        "higher",
        "Mean of ½ to the power of age over half-life, half-lives by type of content.",
        "",
        "Freshness",
    ),
    Description(
        "age_days",
        "age",
        "days",
        "lower",
        "Mean age of the shown items.",
        "",
        "Freshness",
    ),
    Description(
        "sponsorable",
        "sponsorable share",
        "0 to 1",
        "neither",
        "Share of the slots that a running campaign that may reach the doctor would pay for.",
        "",
        "Campaigns",
    ),
    Description(
        "delivery",
        "delivery",
        "0 to 1",
        "neither",
        "What those slots are worth to the campaigns, over all slots.",
        "",
        "Campaigns",
    ),
)
"""Every metric of an evaluation, in the order of reports."""
