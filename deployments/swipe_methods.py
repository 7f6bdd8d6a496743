"""``RecommendationService.Swipe``: a stream of cards, each chosen after the action before it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from recmesh.deployments.action_recorder import ActionRecorder
from recmesh.deployments.call_meter import CallMeter
from recmesh.deployments.call_watch import CallWatch
from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.grpc_service import StreamMethod
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.swipe.deal import SURFACE, deal
from recmesh.orchestrator.swipe.session import DealtCard, SwipeSession
from recmesh.orchestrator.swipe.session_id import SessionIds
from recmesh.orchestrator.user_store import SHOWN_TO_MODELS
from recmesh.storage.errors import InvalidRequestError, OverloadedError, SilentCallerError
from recmesh.storage.interchange import EVENT_TYPES
from recmesh.storage.telemetry.current_call import CURRENT_CALL
from recmesh.v1 import common_pb2, feedback_pb2, recommendation_pb2

Requests = AsyncIterator[recommendation_pb2.SwipeRequest]
ReadUp = Callable[[float], Awaitable[bool]]
"""Reads the event log to its end within so many seconds; says whether that was possible."""

MOST_SESSIONS = 500
"""Open at a replica at once: half of the calls that its server takes, so that pages have room."""
IDLE_S = 300.0
"""How long a card may stay open; then the stream ends and the session can be resumed."""
PATIENCE_S = 0.25
"""How long a card that is chosen waits for the action before it to be durable: a busy disk's sync.
Nobody waits for a writer that is known not to answer."""
READ_UP_S = 1.0

_SHAPING = frozenset(EVENT_TYPES[name] for name in SHOWN_TO_MODELS)


class SwipeMethods:
    """Belongs to one event loop. A session is in memory as long as its stream is open."""

    def __init__(
        self,
        mesh: Mesh,
        meter: CallMeter,
        recorder: ActionRecorder | None = None,
        read_up: ReadUp | None = None,
        *,
        idle_s: float = IDLE_S,
        most_sessions: int = MOST_SESSIONS,
        may: CallerSurfaces | None = None,
    ) -> None:
        """What it works with.

        Args:
            mesh: what cards are chosen with.
            meter: counts every card as a call.
            recorder: of actions; None: nothing is recorded, which every card says.
            read_up: brings the mesh's histories to the end of the event log; None: there is none.
            idle_s: how long a card may stay open.
            most_sessions: that may be open at once.
            may: who may swipe; None: everybody.
        """
        self._mesh = mesh
        self._meter = meter
        self._watch = CallWatch("recmesh.v1.RecommendationService", "SwipeCard", begins_traces=True)
        self._recorder = recorder
        self._read_up = read_up
        self._idle_s = idle_s
        self._most_sessions = most_sessions
        self._may = may or CallerSurfaces(None)
        self._ids = SessionIds(mesh.tokens.keys_for(b"swipe sessions"))
        self._open = 0

    @property
    def streams(self) -> Mapping[str, StreamMethod]:
        """By name in ``RecommendationService``."""
        return {"Swipe": self._swipe}

    async def _swipe(
        self, requests: Requests
    ) -> AsyncGenerator[recommendation_pb2.SwipeResponse, None]:
        self._may.check(SURFACE)
        if self._open >= self._most_sessions:
            raise OverloadedError(
                f"{self._most_sessions} sessions are open at this replica; try again later"
            )
        self._open += 1
        try:
            async with contextlib.aclosing(self._session(requests)) as cards:
                async for card in cards:
                    yield card
        finally:
            self._open -= 1

    async def _session(
        self, requests: Requests
    ) -> AsyncGenerator[recommendation_pb2.SwipeResponse, None]:
        first = await self._next(requests)
        if first is None:
            return
        with self._metered():
            session, session_id, degraded = await self._opened(first)
            page = await deal(self._mesh, session)
        while page.recommendations:
            card = page.recommendations[0]
            yield recommendation_pb2.SwipeResponse(
                session_id=session_id,
                card=card,
                attribution_token=page.attribution_token,
                degraded=degraded or page.degraded,
                versions=page.versions,
            )
            request = await self._next(requests)
            if request is None:
                return
            with self._metered():
                action = _action(request, card.item_id)
                recorded = self._act(session, page, action.event_type)
                page = await deal(self._mesh, session)
                degraded = not await _in_time(recorded)

    async def _next(self, requests: Requests) -> recommendation_pb2.SwipeRequest | None:
        """None: the caller has no more to say."""
        try:
            async with asyncio.timeout(self._idle_s):
                return await anext(requests, None)
        except TimeoutError as error:
            raise SilentCallerError(
                f"nothing came for {self._idle_s:.0f} s; resume the session by its id"
            ) from error

    @contextlib.contextmanager
    def _metered(self) -> Iterator[None]:
        stream = CURRENT_CALL.get()
        started_s = self._meter.begin()
        card = self._watch.begin()
        try:
            yield
        except BaseException as error:
            card.failed(error)
            raise
        finally:
            card.end()
            self._meter.end(started_s)
            CURRENT_CALL.set(stream)

    async def _opened(
        self, request: recommendation_pb2.SwipeRequest
    ) -> tuple[SwipeSession, str, bool]:
        """The session, its id, and whether anything of it may be missing."""
        if request.WhichOneof("message") != "start":
            raise InvalidRequestError("start", "the first message of a stream starts a session")
        start, now_unix_s = request.start, int(time.time())
        user_id = start.user_id
        if "\0" in user_id:
            raise InvalidRequestError("start.user_id", "must not hold the character NUL")
        if not start.session_id:
            session_id = self._ids.issue(user_id, now_unix_s)
            key = self._ids.key(session_id, user_id, now_unix_s)
            return SwipeSession(key, user_id), session_id, False
        key = self._ids.key(start.session_id, user_id, now_unix_s)
        known = self._read_up is not None and await self._read_up(READ_UP_S)
        shown = self._mesh.impressions.of(user_id, now_unix_s)
        return SwipeSession.resumed(key, user_id, shown), start.session_id, not known

    def _act(
        self,
        session: SwipeSession,
        page: recommendation_pb2.RecommendResponse,
        event_type: common_pb2.EventType.ValueType,
    ) -> asyncio.Future[bool] | None:
        """The session knows the action at once, the event log in a moment."""
        now = time.time()
        card = page.recommendations[0]
        events = []
        for kind in dict.fromkeys((common_pb2.EVENT_TYPE_IMPRESSION, event_type)):
            name = "impression" if kind == common_pb2.EVENT_TYPE_IMPRESSION else "action"
            events.append(
                feedback_pb2.Event(
                    event_id=f"{session.request_id}.{name}",
                    event_type=kind,
                    user_id=session.user_id,
                    item_id=card.item_id,
                    surface=SURFACE,
                    attribution_token=page.attribution_token,
                    time=Timestamp(seconds=int(now)),
                )
            )
        session.answered(
            DealtCard(card.item_id, card.sponsorship.campaign_id),
            event_type,
            int(now),
            shapes=event_type in _SHAPING,
        )
        return self._recorder.add(events) if self._recorder else None


def _action(
    request: recommendation_pb2.SwipeRequest, open_item_id: str
) -> recommendation_pb2.SwipeAction:
    if request.WhichOneof("message") != "action":
        raise InvalidRequestError(
            "start", "the session is open; every further message is an action"
        )
    action = request.action
    if action.item_id != open_item_id:
        raise InvalidRequestError("action.item_id", "not the card that is open")
    if action.event_type == common_pb2.EVENT_TYPE_SEARCH:
        raise InvalidRequestError("action.event_type", "a search is not an action on a card")
    return action


async def _in_time(recorded: asyncio.Future[bool] | None) -> bool:
    """Whether the action is durable, or becomes so in a moment."""
    if recorded is None:
        return False
    await asyncio.wait([recorded], timeout=PATIENCE_S)
    return recorded.done() and recorded.result()
