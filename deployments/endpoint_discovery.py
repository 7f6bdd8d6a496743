"""Tells Envoys that run elsewhere where replicas are: the address book as Envoy's REST discovery.

An Envoy beside the cluster cannot read the files that :mod:`recmesh.deployments.edge` writes, so it
asks: ``POST /v3/discovery:endpoints``, once a second, through Serve's own HTTP proxies, which carry
nothing else. Silence and empty answers change nothing there, as with the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from recmesh.deployments.address_book import AddressBookClient, Announcement, Role
from recmesh.deployments.discovery import addresses_by_application
from recmesh.deployments.envoy_config import CLUSTERS, endpoints

NAME = "edge-discovery"
"""Name of the Serve application and of its deployment."""
ROUTE = "/v3"
PATH = f"{ROUTE}/discovery:endpoints"
"""Fixed by Envoy's REST protocol."""
UNCHANGED = 304
BAD_REQUEST = 400
NO_ANSWER = 503


class EndpointDiscovery:
    """Answers Envoys from the address book. Belongs to one event loop."""

    def __init__(
        self, source: Callable[[], Awaitable[Sequence[Announcement]]] | None = None
    ) -> None:
        """``source`` answers with all replicas known now; none: the cluster's address book."""
        self._source = source or AddressBookClient().replicas

    async def __call__(self, request: Request) -> Response:
        """One poll of one Envoy for one cluster."""
        try:
            asked = await request.json()
            (cluster,) = asked["resource_names"]
            known_version = asked.get("version_info", "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return Response("ask for one cluster in resource_names", BAD_REQUEST)
        if cluster not in CLUSTERS:
            return Response(f"no cluster {cluster}; there are {', '.join(CLUSTERS)}", BAD_REQUEST)
        try:
            replicas = await self._source()
        except Exception as error:  # noqa: BLE001 - the book may fail in any way and come back
            return Response(f"the address book is silent: {type(error).__name__}", NO_ANSWER)
        # A cluster is named as the application whose replicas it leads to, and as their role.
        found = addresses_by_application(replicas, Role(cluster)).get(cluster, [])
        if not found:
            return Response(status_code=UNCHANGED)
        resources = json.loads(endpoints(sorted(set(found)), cluster))
        version = hashlib.sha256(json.dumps(resources).encode()).hexdigest()[:16]
        if version == known_version:
            return Response(status_code=UNCHANGED)
        return JSONResponse({"version_info": version, **resources})


def discovery_application(replicas: int) -> serve.RunTarget:
    """What Serve is to run for it."""
    deployment = serve.deployment(EndpointDiscovery).options(
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 0.05},
        max_ongoing_requests=100,
    )
    return serve.RunTarget(deployment.bind(), name=NAME, route_prefix=ROUTE)
