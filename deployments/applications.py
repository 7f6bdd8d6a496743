"""The mesh's applications on Ray Serve: run them, wait for them, tell how they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError

from recmesh.deployments.address_book import Announcement, Role, address_book
from recmesh.deployments.model_app import PREFIX, application_of
from recmesh.storage.errors import UnavailableError

DEPLOY_TIMEOUT_S = 120.0
POLL_S = 0.2
ANSWER_S = 10.0
OURS = (Role.ORCHESTRATOR.value, Role.CATALOG.value)
"""Applications that are no models'."""
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
RUNNING = "RUNNING"


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """How one application is, by Serve's word and its replicas' own."""

    name: str
    """The model's name, ``orchestrator`` or ``catalog``; ``model@version`` beside a live one."""
    application: str
    """Serve's name of it."""
    state: str
    """Serve's: RUNNING, DEPLOYING, UNHEALTHY, DEPLOY_FAILED, DELETING."""
    message: str
    """Why, when it does not run; else empty."""
    target_replicas: int
    replicas: list[Announcement] = field(default_factory=list)
    """Those that announce themselves, oldest first."""

    @property
    def settled(self) -> bool:
        """Whether it runs or has failed: waiting longer changes nothing."""
        return self.state == RUNNING or self.state in FAILED

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


Watch = Callable[[str, list[ApplicationState]], None]
"""Told what is being done, and how the applications are while they start."""


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _order(state: ApplicationState) -> tuple[int, str]:
    return OURS.index(state.name) if state.name in OURS else len(OURS), state.name


def states() -> list[ApplicationState]:
    """Every application of the mesh: orchestrator, catalog, then models by name.

    Raises:
        UnavailableError: the address book or Serve does not answer.
    """
    try:
        announced: list[Announcement] = ray.get(address_book().replicas.remote(), timeout=ANSWER_S)
        deployed = serve.status().applications
    except (RayError, TimeoutError) as error:
        raise UnavailableError(f"the cluster does not answer: {type(error).__name__}") from error
    found: list[ApplicationState] = []
    for application, status in deployed.items():
        # On a cluster that others use too, only the mesh's are ours to show and to remove.
        if application not in OURS and not application.startswith(PREFIX):
            continue
        # Every application of ours is one deployment; there is none before it is built.
        name, deployment = next(
            iter(status.deployments.items()), (application.removeprefix(PREFIX), None)
        )
        running = deployment.replica_states.get("RUNNING", 0) if deployment else 0
        starting = deployment.replica_states.get("STARTING", 0) if deployment else 0
        why = (deployment.message if deployment else "") or status.message
        found.append(
            ApplicationState(
                name=name,
                application=application,
                state=status.status.value,
                message="" if status.status.value == RUNNING else _last_line(why),
                target_replicas=running + starting,
                replicas=[a for a in announced if a.application == name],
            )
        )
    return sorted(found, key=_order)


def deploy(
    targets: Sequence[serve.RunTarget],
    timeout_s: float,
    watch: Callable[[list[ApplicationState]], None],
) -> list[ApplicationState]:
    """Runs or updates applications, each by itself, and waits until all run or have failed.

    Replicas that run are replaced by new ones, which read data, policy and artifacts anew.
    Applications not named are not touched.

    Args:
        targets: of :func:`model_application` and the like.
        timeout_s: give up waiting then; deployment goes on in the cluster.
        watch: told the states while waiting; what it raises ends the waiting.

    Returns:
        The last states of the applications named.

    Raises:
        UnavailableError: the cluster does not answer until then.
    """
    names = {target.name for target in targets}
    serve.run_many(targets, wait_for_applications_running=False)
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            mine = [state for state in states() if state.application in names]
        except UnavailableError:
            # On a busy machine the address book may take its time to start.
            if time.monotonic() > end_s:
                raise
            watch([])
        else:
            watch(mine)
            if time.monotonic() > end_s or all(state.settled for state in mine):
                return mine
        time.sleep(POLL_S)


def remove(name: str, version: str = "") -> bool:
    """Ends an application; returns whether there was one, once its replicas are gone.

    With a model's ``version``, the one beside the live one.
    """
    application = name if name in OURS else application_of(name, version)
    if application not in serve.status().applications:
        return False
    serve.delete(application)
    return True
