"""Why items were on a page, and why others were not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from recmesh.orchestrator.campaigns.campaign_ledger import Hold
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.replay import Replayed, replay
from recmesh.orchestrator.decisions.weight_flips import WeightFlips
from recmesh.orchestrator.slate.why_not import WhyNot, why_not
from recmesh.storage.unix_time import NEVER_UNIX_S
from recmesh.v1 import recommendation_pb2

SHOWN = recommendation_pb2.ITEM_OUTCOME_SHOWN
DROPPED = recommendation_pb2.ITEM_OUTCOME_DROPPED
NOT_RETRIEVED = recommendation_pb2.ITEM_OUTCOME_NOT_RETRIEVED


async def explain(
    pages: Sequence[Decision], item_ids: Sequence[str]
) -> recommendation_pb2.ExplainResponse:
    """Explains items of a request's pages.

    Chooses pages anew under other weights, so it takes tenths of a second of a core, and lets
    nothing else run on its event loop meanwhile.

    Args:
        pages: of one request, at least one; an item that none shows is explained by the last.
        item_ids: shown or not; empty: all that were shown.
    """
    explained = [_Page(page, await replay(page)) for page in pages]
    wanted = list(dict.fromkeys(item_ids)) or [i for page in explained for i in page.item_ids]
    response = recommendation_pb2.ExplainResponse(request_id=pages[0].considered.request.asked_as)
    for item_id in wanted:
        page = next((page for page in explained if item_id in page.item_ids), explained[-1])
        response.items.append(await page.explained(item_id))
    return response


class _Page:
    def __init__(self, decision: Decision, replayed: Replayed) -> None:
        self._decision = decision
        self._replayed = replayed
        self._flips = WeightFlips(decision, replayed)
        self._positions = {row: place for place, row in enumerate(replayed.rows.tolist())}
        self.item_ids = replayed.item_ids

    async def explained(self, item_id: str) -> recommendation_pb2.ItemExplanation:
        considered = self._decision.considered
        found = recommendation_pb2.ItemExplanation(item_id=item_id, outcome=NOT_RETRIEVED)
        row = considered.request.catalog.row_of.get(item_id, -1)
        if not 0 <= row < len(considered.candidates.rows):
            found.stage = "retrieve"
            found.rule = f"no source proposed it: {self._asked()}"
            return found
        found.sources.extend(
            source for source, rows in considered.candidates.proposed.items() if row in rows
        )
        position = self._positions.get(row)
        if position is None:
            found.outcome, found.stage = DROPPED, "filter"
            found.rule = self._removed_by(row)
            return found
        blended = self._replayed.blended
        for name, column in blended.objectives.items():
            found.contributions[name] = float(column[position]) * blended.weights[name]
        scores = considered.scores.of_request
        for name, score, known in zip(
            scores.scorers, scores.values[position], scores.mask[position], strict=True
        ):
            if known:
                found.scores[name] = float(score)
        if item_id in self.item_ids:
            found.outcome = SHOWN
            found.rank = considered.request.offset + self.item_ids.index(item_id) + 1
        else:
            found.outcome, found.stage = DROPPED, "select"
            reason = self._not_selected(position, item_id)
            found.rule = f"{reason.rule}: {reason.value}"
        flip = await self._flips.of(position)
        if flip is not None:
            found.flip.objective = flip.objective
            found.flip.weight = flip.weight
            found.flip.flipped_weight = flip.flipped_weight
        return found

    def _asked(self) -> str:
        answered = [
            f"{source} {len(rows)}"
            for source, rows in self._decision.considered.candidates.proposed.items()
        ]
        return f"of those asked, with how many they proposed, {', '.join(answered) or 'none'}"

    def _not_selected(self, position: int, item_id: str) -> WhyNot:
        for attempt in self._decision.attempts:
            for slot, hold in zip(attempt.wanted, attempt.holds or (), strict=False):
                if slot.item_id == item_id and hold is not Hold.HELD:
                    return WhyNot("ledger", f"campaign {slot.campaign_id} is {hold.name}")
        chosen = self._replayed.slate.chosen
        if position in self._replayed.slate.refused.tolist():
            most = self._decision.considered.request.surface.campaigns.most_organic_loss
            return WhyNot(
                "most_organic_loss",
                f"its campaign would have cost the page more than {most:g} of its utility",
            )
        if position in chosen.tolist():
            place = int(np.flatnonzero(chosen == position)[0]) + 1
            return WhyNot("page", f"an earlier page of the request shows it in slot {place}")
        rules = self._decision.considered.request.surface.slate
        return why_not(self._replayed.columns, rules, chosen, position)

    def _removed_by(self, row: int) -> str:
        """The rule with the value it was judged by."""
        considered = self._decision.considered
        request = considered.request
        catalog = request.catalog
        rule = next(
            (name for name, rows in considered.filtered.removed.items() if row in rows), "unknown"
        )
        values = {
            "expired": lambda: _date(int(catalog.expires_unix_s[row])),
            "not-published-yet": lambda: _date(int(catalog.published_unix_s[row])),
            "filter.published_after": lambda: _date(int(catalog.published_unix_s[row])),
            "filter.published_before": lambda: _date(int(catalog.published_unix_s[row])),
            "not-licensed-in-country": lambda: (
                f"licensed in {', '.join(sorted(catalog.countries.terms(row)))}; "
                f"the user is in {request.country or 'an unknown country'}"
            ),
            "filter.content_types": lambda: ", ".join(catalog.content_types.terms(row)),
            "filter.specialties": lambda: ", ".join(catalog.specialties.terms(row)),
            "filter.languages": lambda: ", ".join(catalog.languages.terms(row)),
            "filter.topics": lambda: ", ".join(catalog.topics.terms(row)),
        }
        value = values.get(rule)
        return f"{rule}: {value() or 'none'}" if value is not None else rule


def _date(unix_s: int) -> str:
    if not 0 < unix_s < NEVER_UNIX_S:
        return "unknown"
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
