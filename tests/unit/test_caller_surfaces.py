"""A caller gets the surfaces that the configuration gives it, whatever method it asks through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from recmesh.deployments.call_meter import CallMeter
from recmesh.deployments.caller import CALLER_KEY, current_caller, set_current_caller
from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.explain_methods import ExplainMethods
from recmesh.deployments.swipe_methods import SwipeMethods
from recmesh.orchestrator.attribution_token import AttributionTokens
from recmesh.storage.errors import ForbiddenError
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import recommendation_pb2

SURFACES = CallerSurfaces({"feed-backend": ("feed", "network"), "operator": ()})


def ask_as(caller: str) -> None:
    set_current_caller([("user-agent", "x"), (CALLER_KEY, caller)] if caller else None)


def test_a_caller_may_have_some_surfaces_or_all() -> None:
    ask_as("feed-backend")
    SURFACES.check("network")
    with pytest.raises(ForbiddenError, match=r"surface 'search'; it has feed, network"):
        SURFACES.check("search")
    ask_as("operator")
    SURFACES.check("search")


@pytest.mark.parametrize("caller", ["", "nobody"])
def test_who_is_not_known_may_have_none_where_callers_are_known(caller: str) -> None:
    ask_as(caller)
    assert current_caller() == caller
    with pytest.raises(ForbiddenError, match="names no caller"):
        SURFACES.check("feed")
    CallerSurfaces(None).check("feed")


async def test_sessions_and_explanations_are_of_a_surface_too() -> None:
    ask_as("feed-backend")
    mesh: Any = SimpleNamespace(tokens=AttributionTokens(SigningKeys.random()))
    swipe = SwipeMethods(mesh, CallMeter(), may=SURFACES).streams["Swipe"]

    async def nothing() -> AsyncIterator[Any]:
        for request in ():
            yield request

    with pytest.raises(ForbiddenError, match="'swipe'"):
        await anext(swipe(nothing()))

    async def find(request_id: str, *, timeout_s: float) -> list[Any]:
        message = SimpleNamespace(surface=request_id)
        return [
            SimpleNamespace(considered=SimpleNamespace(request=SimpleNamespace(message=message)))
        ]

    mesh.decisions = SimpleNamespace(find=find)
    request = recommendation_pb2.ExplainRequest(request_id="search")
    with pytest.raises(ForbiddenError, match="'search'"):
        await ExplainMethods(mesh, SURFACES).explain(request, 1.0)
