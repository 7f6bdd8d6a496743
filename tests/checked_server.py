"""Serves a model of ``tests.checked_models`` from a process of its own.

``checked_server MODEL ours`` serves it as a replica does; ``checked_server MODEL raw`` as a server
in another language might, which passes on whatever the model says.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from recmesh.deployments.model_methods import ModelMethods
from recmesh.deployments.model_server import model_server
from recmesh.models.model import Context, User
from recmesh.storage.child_process import dies_with_starter
from recmesh.v1 import model_pb2, model_pb2_grpc
from tests.checked_models import MODELS, CleanModel

ROOT = Path(__file__).parents[1]


def _context(request: Any, context: grpc.ServicerContext) -> Context:
    user = request.user
    if len(user.history_item_ids) != len(user.history_times_unix_s):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "user: history and times differ in length")
    return Context(
        User(user.user_id, list(user.history_item_ids)), request.surface, request.now_unix_s
    )


class RawServicer(model_pb2_grpc.ModelServiceServicer):
    """Passes on what the model says, without a look at it."""

    def __init__(self, model: CleanModel) -> None:
        self._model = model
        self._describe = ModelMethods(model).describe

    def Describe(self, request: Any, context: Any) -> Any:
        return asyncio.run(self._describe(request))

    def Retrieve(self, request: Any, context: Any) -> Any:
        found = self._model.retrieve(_context(request, context), request.limit)
        return model_pb2.RetrieveResponse(
            item_ids=found.item_ids, scores=found.scores.tolist(), version="v1"
        )

    def Score(self, request: Any, context: Any) -> Any:
        scores = self._model.score(_context(request, context), list(request.item_ids))
        missing = np.flatnonzero(np.isnan(scores)).tolist()
        return model_pb2.ScoreResponse(scores=scores.tolist(), missing=missing, version="v1")


async def _ours(model: CleanModel) -> None:
    server = model_server(ModelMethods(model))
    print(await server.start("127.0.0.1:0"), flush=True)
    await asyncio.Event().wait()


def _raw(model: CleanModel) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    model_pb2_grpc.add_ModelServiceServicer_to_server(RawServicer(model), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


@contextmanager
def served(model: str, how: str) -> Iterator[str]:
    """Its address, while the context is open."""
    process = subprocess.Popen(
        dies_with_starter([sys.executable, "-m", "tests.checked_server", model, how]),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    made = MODELS[sys.argv[1]]()
    if sys.argv[2] == "ours":
        asyncio.run(_ours(made))
    else:
        _raw(made)
