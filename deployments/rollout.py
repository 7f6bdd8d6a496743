"""Rolls replicas of a model over to other ones, and back when they do not come up.

Serve starts new replicas beside the old ones and stops the old ones once the new ones run. When
new ones fail it keeps the old ones and says so, but goes on wanting the new ones: so whoever gives
up tells it to want the old ones again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ray import serve

from recmesh.deployments.applications import (
    DEPLOY_TIMEOUT_S,
    FAILED,
    POLL_S,
    RUNNING,
    ApplicationState,
    states,
)
from recmesh.deployments.grpc_model_client import GrpcModelClient
from recmesh.deployments.model_app import ModelRun
from recmesh.storage.errors import RecMeshError, UnavailableError

INSTALL_TIMEOUT_S = 600.0
"""Added where replicas install requirements of their own first."""
DESCRIBE_TIMEOUT_S = 5.0

Watch = Callable[[list[ApplicationState]], None]
"""Told how an application is while it starts; what it raises ends the waiting."""


def state_of(application: str) -> ApplicationState | None:
    """How a Serve application is; None: there is none. Raises UnavailableError."""
    return next((state for state in states() if state.application == application), None)


def roll_out(
    run: ModelRun,
    watch: Watch,
    timeout_s: float = DEPLOY_TIMEOUT_S,
    count: tuple[int, int] = (1, 1000),
) -> ApplicationState:
    """Runs a model's version in place of what its application runs now, and waits for it.

    It is there once Serve calls it running, every replica that is announced is of this build,
    there are as many as wanted, and each answers ``Describe`` with the version.

    Args:
        run: what to run.
        watch: told the state while waiting.
        timeout_s: give up then.
        count: least and most replicas to wait for.

    Raises:
        UnavailableError: it does not come up, and Serve goes on trying.
    """
    serve.run_many([run.target], wait_for_applications_running=False)
    end_s = time.monotonic() + timeout_s
    why = "the cluster does not answer"
    while time.monotonic() < end_s:
        try:
            state = state_of(run.target.name)
        except UnavailableError:
            state = None  # a busy machine; its word comes later
        if state is not None:
            watch([state])
            why = state.message or state.state
            if state.state in FAILED:
                break
            if runs(state, run) and count[0] <= len(state.replicas) <= count[1]:
                said = asyncio.run(_described(run, [r.address for r in state.replicas]))
                if said == {run.version}:
                    return state
                if "" not in said:
                    why = f"its replicas call themselves {', '.join(sorted(said))} in Describe"
                    break
                why = "its replicas do not answer Describe"
        time.sleep(POLL_S)
    else:
        why += f", after {timeout_s:.0f} s"
    raise UnavailableError(f"{run.name}@{run.version} does not come up: {why}")


def runs(state: ApplicationState | None, run: ModelRun) -> bool:
    """Whether an application's replicas are of this build, all of them."""
    return (
        state is not None
        and state.state == RUNNING
        and bool(state.replicas)
        and all(replica.build == run.build for replica in state.replicas)
    )


async def _described(run: ModelRun, addresses: list[str]) -> set[str]:
    """What replicas call themselves; empty for one that does not answer."""

    async def one(address: str) -> str:
        client = GrpcModelClient(run.name, [address], token=run.token)
        try:
            return (await client.describe(timeout_s=DESCRIBE_TIMEOUT_S)).version
        except RecMeshError:
            return ""
        finally:
            await client.close()

    return set(await asyncio.gather(*(one(address) for address in addresses)))
