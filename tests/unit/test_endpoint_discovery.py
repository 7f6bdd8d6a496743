"""Where replicas are, as an Envoy asks for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from recmesh.deployments.address_book import Announcement, Role
from recmesh.deployments.endpoint_discovery import (
    BAD_REQUEST,
    NO_ANSWER,
    PATH,
    UNCHANGED,
    EndpointDiscovery,
)


def announced(role: Role, address: str) -> Announcement:
    return Announcement(role, role.value, address, address, "1")


async def asked(discovery: EndpointDiscovery, body: Any) -> Response:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
    return await discovery(Request(scope, receive))


def of(*replicas: Announcement) -> EndpointDiscovery:
    async def source() -> Sequence[Announcement]:
        return replicas

    return EndpointDiscovery(source)


async def test_only_the_asked_cluster_is_told() -> None:
    discovery = of(
        announced(Role.ORCHESTRATOR, "10.0.0.2:4001"),
        announced(Role.ORCHESTRATOR, "10.0.0.1:4000"),
        announced(Role.CATALOG, "10.0.0.3:4000"),
        announced(Role.MODEL, "10.0.0.4:4000"),
    )
    answer = json.loads((await asked(discovery, {"resource_names": ["orchestrator"]})).body)
    (told,) = answer["resources"]
    assert told["cluster_name"] == "orchestrator"
    (locality,) = told["endpoints"]
    sockets = [e["endpoint"]["address"]["socket_address"] for e in locality["lb_endpoints"]]
    assert sockets == [
        {"address": "10.0.0.1", "port_value": 4000},
        {"address": "10.0.0.2", "port_value": 4001},
    ]


async def test_what_is_known_is_not_told_again() -> None:
    discovery = of(announced(Role.CATALOG, "10.0.0.3:4000"))
    first = json.loads((await asked(discovery, {"resource_names": ["catalog"]})).body)
    again = {"resource_names": ["catalog"], "version_info": first["version_info"]}
    assert (await asked(discovery, again)).status_code == UNCHANGED


async def test_an_empty_book_is_no_news() -> None:
    assert (await asked(of(), {"resource_names": ["catalog"]})).status_code == UNCHANGED


async def test_a_silent_book_is_said() -> None:
    async def source() -> Sequence[Announcement]:
        raise TimeoutError

    answer = await asked(EndpointDiscovery(source), {"resource_names": ["catalog"]})
    assert answer.status_code == NO_ANSWER


@pytest.mark.parametrize(
    "body",
    [{}, [], {"resource_names": []}, {"resource_names": ["a", "b"]}, {"resource_names": ["x"]}],
)
async def test_other_questions_are_refused(body: Any) -> None:
    assert (await asked(of(), body)).status_code == BAD_REQUEST
