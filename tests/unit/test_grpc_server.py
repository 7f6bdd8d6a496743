"""A server of the mesh, started."""

from __future__ import annotations

import gc

from recmesh.deployments.grpc_server import GrpcServer


async def test_what_a_replica_holds_when_it_starts_is_left_out_of_collections() -> None:
    gc.unfreeze()
    held = len(gc.get_objects())
    server = GrpcServer([])
    await server.start("127.0.0.1:0")
    try:
        assert gc.get_freeze_count() > held / 2
    finally:
        await server.stop(0)
        gc.unfreeze()
