"""The port to the ledger of sponsored slots: what a page asks before it shows one."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recmesh.v1.decision_log_pb2 import SealedDecision


class Hold(enum.Enum):
    """What became of a slot that was asked for."""

    HELD = enum.auto()
    """It is durable, and may be shown."""
    SPENT = enum.auto()
    """All that was bought is delivered or held."""
    CAPPED = enum.auto()
    """The user had as much of the campaign as its frequency cap allows."""
    NOT_RUNNING = enum.auto()
    """The campaign is not known, has not begun, or is over."""


@dataclass(frozen=True, slots=True)
class WantedSlot:
    """A slot that is to count for a campaign."""

    item_id: str
    campaign_id: str


@dataclass(frozen=True, slots=True)
class HoldAttempt:
    """What was asked for one slate, and what the ledger said."""

    wanted: Sequence[WantedSlot]
    holds: Sequence[Hold] | None
    """One for each; None: nobody answered in time."""

    @property
    def granted(self) -> bool:
        """Whether the slate could be shown."""
        return self.holds is not None and all(hold is Hold.HELD for hold in self.holds)


@dataclass(frozen=True, slots=True)
class CampaignPacing:
    """What a slot is worth to a campaign now, and how many it may still have."""

    campaign_id: str
    price: float
    """Added to the utility of its items; below 0: it waits."""
    remaining: int
    """Impressions neither confirmed nor held."""


class CampaignLedger(Protocol):
    """Where slots are held. Belongs to one event loop."""

    async def hold(
        self,
        request_id: str,
        user_id: str,
        slots: Sequence[WantedSlot],
        *,
        timeout_s: float,
        decision: SealedDecision | None = None,
    ) -> list[Hold]:
        """Holds slots of one page, each as it can be; durable once this returns.

        A slot is identified by request and item: held again, it is held once. When all are held,
        ``decision`` is durable, too: the record of the page that will show them.

        Raises:
            UnavailableError: the ledger did not answer in time; nothing may be shown.
        """
        ...

    async def read_pacing(self, *, timeout_s: float) -> list[CampaignPacing]:
        """Every campaign that is not over.

        Raises:
            UnavailableError: the ledger did not answer in time.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...
