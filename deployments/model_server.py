"""``ModelService`` over gRPC for one model: what a replica runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import Method, add_service
from recmesh.deployments.mesh_token import inside_only
from recmesh.deployments.model_methods import ModelMethods
from recmesh.v1 import model_pb2

MODEL = model_pb2.DESCRIPTOR.services_by_name["ModelService"]


def _without_deadline(method: Callable[[Any], Awaitable[Message]]) -> Method:
    async def call(request: Any, _: float) -> Message:
        return await method(request)

    return call


def model_server(methods: ModelMethods, token: str = "") -> GrpcServer:
    """A server, not started yet. Requests were validated where they entered the mesh.

    With a ``token`` it takes calls only from inside the mesh that has it.
    """
    server = GrpcServer([MODEL.full_name], interceptors=inside_only(token))
    add_service(
        server,
        MODEL,
        {
            "Describe": _without_deadline(methods.describe),
            "Retrieve": _without_deadline(methods.retrieve),
            "Score": _without_deadline(methods.score),
            "Embed": _without_deadline(methods.embed),
        },
        checked=False,
    )
    return server
