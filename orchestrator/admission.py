"""Stage 1: check the request, take one snapshot, start the time budget."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.orchestrator.deadline import Deadline
from recmesh.orchestrator.experiments.served_experiments import Drafting
from recmesh.orchestrator.mesh import Mesh, Snapshot
from recmesh.orchestrator.objectives.registry import OBJECTIVES
from recmesh.orchestrator.operating_point import objectives_of
from recmesh.orchestrator.page_request import PageRequest
from recmesh.orchestrator.page_token import MAX_SLOTS, PageToken
from recmesh.orchestrator.policy import Policy, SurfacePolicy
from recmesh.orchestrator.source_call import SourceCalls
from recmesh.orchestrator.swipe.session import DealtCard, SwipeSession
from recmesh.orchestrator.user_store import UserProfile
from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.telemetry.current_call import identify
from recmesh.storage.telemetry.spans import recorded_span
from recmesh.v1 import common_pb2, recommendation_pb2

CATALOG = "catalog"
"""Names the catalog among the sources of a page."""


@dataclass(frozen=True)
class Rival:
    """The second arm of an interleaved page; the first makes the rest of the request."""

    drafting: Drafting
    snapshot: Snapshot
    surface: SurfacePolicy


@dataclass(frozen=True, kw_only=True)
class Admitted(PageRequest):
    """A request that may be worked on, with everything it is answered from."""

    snapshot: Snapshot
    features: common_pb2.UserFeatures
    calls: SourceCalls
    tokens: AttributionTokens
    started_s: float
    """Monotonic clock."""
    arms: Mapping[str, str] = field(default_factory=dict)
    """Of the experiments that the page takes part in, by experiment."""
    without_campaigns: frozenset[str] = frozenset()
    """Campaigns that an experiment leaves out; ``*``: all."""
    rival: Rival | None = None
    """Who picks every other slot; None: nobody does."""

    @property
    def embedding_version(self) -> str:
        """The space that everything of this request is embedded in; empty: none is live."""
        return self.snapshot.embedding.version if self.snapshot.embedding else ""

    @property
    def floor_limit(self) -> int:
        """Popular or fresh items to consider: enough for every page after filtering.

        The same on every page of a request, so that pages are cuts of one slate.
        """
        dropped = len(self.user.history_item_ids) + len(self.message.exclude_item_ids)
        return max(self.surface.source_limit, MAX_SLOTS) + dropped


def _features(user: UserProfile) -> common_pb2.UserFeatures:
    return common_pb2.UserFeatures(
        user_id=user.user_id,
        history_item_ids=user.history_item_ids,
        history_event_types=user.history_event_types,  # type: ignore[arg-type] # ints are enums on the wire
        history_times_unix_s=user.history_times_unix_s,
        specialties=user.specialties,
        country=user.country,
        language=user.language,
    )


def _surface(policy: Policy, message: recommendation_pb2.RecommendRequest) -> SurfacePolicy:
    """The rules of the page that is asked for. Raises InvalidRequestError."""
    surface = policy.surfaces.get(message.surface)
    if surface is None:
        raise InvalidRequestError(
            "surface", f"unknown; this policy has {', '.join(policy.surfaces)}"
        )
    if surface.query == "required" and not message.query.strip():
        raise InvalidRequestError("query", f"required on surface {message.surface}")
    if surface.query == "none" and message.query:
        raise InvalidRequestError("query", f"surface {message.surface} takes no query")
    if not message.query:
        for field, given in (("snippets", message.snippets), ("as_typed", message.as_typed)):
            if given:
                raise InvalidRequestError(field, "only where there is a query")
    if message.objective_preferences:
        known = objectives_of(surface.front) or set(OBJECTIVES)
        if not known.issuperset(message.objective_preferences):
            raise InvalidRequestError(
                "objective_preferences",
                f"unknown objective; known here are {', '.join(sorted(known))}",
            )
        surface = surface.at(dict(message.objective_preferences))
    return surface


def admit(
    mesh: Mesh,
    message: recommendation_pb2.RecommendRequest,
    budget_s: float,
    session: SwipeSession | None = None,
) -> Admitted:
    """Checks what the contract's static rules cannot, and fixes what the answer rests on.

    Args:
        mesh: what the orchestrator works with.
        message: already valid by the contract's own rules.
        budget_s: seconds until the caller's deadline; infinite when there is none.
        session: whose next card this page is.

    Raises:
        InvalidRequestError: names the field at fault.
        DeadlineError: the caller's deadline leaves no time.
    """
    started_s = time.monotonic()
    snapshot = mesh.snapshot
    # By the clock, not by the request's own time, which its caller may choose.
    assigned = mesh.experiments.of(
        message.user_id, message.surface, snapshot.campaigns, time.time()
    )
    snapshot = snapshot.made_by(assigned.making)
    surface = _surface(snapshot.policy, message)
    rival = None
    if assigned.drafting is not None and session is None:
        against = mesh.snapshot.made_by(assigned.drafting.makings[1])
        rival = Rival(assigned.drafting, against, _surface(against.policy, message))
    token = PageToken.decode(message.page_token) if message.page_token else None
    deadline = Deadline.after(min(budget_s, surface.deadline_s), mesh.own_work.enough_s)
    store = snapshot.user_store
    erased = message.user_id in store.erased
    user = mesh.histories.added_to(store.get(message.user_id), erased=erased)
    dealt: Sequence[DealtCard] = ()
    if session is not None:
        dealt = session.counted(surface)
        surface = session.card_surface(surface)
        user = session.added_to(user, erased=erased)
    calls = SourceCalls(deadline, mesh.models.breakers, mesh.models.tallies)
    if snapshot.catalog_seq is None:
        calls.record(
            CATALOG, common_pb2.SOURCE_STATE_UNAVAILABLE, 0.0, "what was written is not known yet"
        )
    context_time = message.context.time.seconds if message.context.HasField("time") else 0
    now_unix_s = context_time or int(time.time())
    request_id = (token.request_id if token else message.request_id) or str(uuid.uuid4())
    shown = mesh.impressions.of(message.user_id, now_unix_s, but_request=request_id)
    identify(request_id, message.surface)
    span = recorded_span()
    if span is not None:
        span.set_attributes(
            {
                "recmesh.policy": snapshot.policy.version,
                "enduser.pseudo.id": mesh.tokens.pseudonym(message.user_id),
            }
        )
    return Admitted(
        message=message,
        request_id=request_id,
        snapshot=snapshot,
        surface=surface,
        catalog=snapshot.items if surface.universe == "items" else snapshot.users,
        user=user,
        features=_features(user),
        calls=calls,
        tokens=mesh.tokens,
        now_unix_s=now_unix_s,
        offset=token.offset if token else 0,
        page_size=message.page_size or surface.page_size,
        started_s=started_s,
        preferences={} if surface.front else dict(message.objective_preferences),
        shown_lately=tuple(shown),
        card=session.number if session is not None else 0,
        dealt=dealt,
        arms=assigned.arms,
        without_campaigns=assigned.without_campaigns,
        rival=rival,
    )
