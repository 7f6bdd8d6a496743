"""``recmesh model status``: how models are, with who answers for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.status import p50_ms
from recmesh.cli.written_data import mesh_config
from recmesh.deployments.applications import RUNNING, ApplicationState, states
from recmesh.deployments.deployed_models import DeployedModel, DeployedModels
from recmesh.deployments.mesh_config import ModelTable
from recmesh.deployments.mesh_record import running_mesh
from recmesh.deployments.open_registry import open_registry, owners
from recmesh.deployments.ray_cluster import joined_cluster
from recmesh.models.registry import check_known, known_models
from recmesh.orchestrator.model_panel import BESIDE
from recmesh.storage.home import Home
from recmesh.storage.model_stage import ALONE, Stage
from recmesh.storage.model_version import ModelVersion, Ownership

NO_MESH = "no mesh"
NOT_DEPLOYED = "not deployed"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model."""

    model: str
    owner: str
    contact: str
    state: str
    """Serve's; or that no mesh runs, or that it runs without the model, or its placement."""
    message: str
    stages: dict[str, str]
    """Version by stage, of stages that have one at a time."""
    versions: int
    """That are known."""
    serves: list[str]
    """Versions that replicas serve."""
    replicas: int
    min_replicas: int
    max_replicas: int
    calls: int
    p50_ms: float
    beside: list[str]
    """Versions that run beside the live one."""
    deployed_by: str
    deployed_at: str

    @property
    def remark(self) -> str:
        """What its owner should know; empty: nothing."""
        live = self.stages.get(Stage.LIVE, "")
        if self.message:
            return self.message
        if live and any(version != live for version in self.serves):
            return (
                f"serves {', '.join(self.serves)}, and {live} is live; "
                f"run: recmesh model deploy {self.model}"
            )
        return ""


def _status(
    name: str,
    owner: Ownership,
    versions: Sequence[ModelVersion],
    table: ModelTable | None,
    deployed: DeployedModel | None,
    running: Sequence[ApplicationState] | None,
) -> ModelStatus:
    """``running`` None: no mesh does."""
    own = next((state for state in running or () if state.name == name), None)
    placement = table.placement if table else "replicas"
    if running is None:
        state = NO_MESH
    elif placement != "replicas":
        state = placement
    else:
        state = own.state if own else NOT_DEPLOYED
    beside = name + BESIDE
    return ModelStatus(
        model=name,
        owner=owner.owner,
        contact=owner.contact,
        state=state,
        message=own.message if own else "",
        stages={one.stage: one.version for one in versions if one.stage in ALONE},
        versions=len(versions),
        serves=sorted({replica.version for replica in own.replicas}) if own else [],
        replicas=len(own.replicas) if own else 0,
        min_replicas=table.min_replicas if table else 0,
        max_replicas=table.max_replicas if table else 0,
        calls=sum(replica.requests for replica in own.replicas) if own else 0,
        p50_ms=round(p50_ms(own), 3) if own else 0.0,
        beside=[s.name.removeprefix(beside) for s in running or () if s.name.startswith(beside)],
        deployed_by=deployed.by if deployed else "",
        deployed_at=deployed.at if deployed else "",
    )


def model_statuses(home: Home, name: str = "") -> list[ModelStatus]:
    """Of one model, or of all that are known here.

    Raises:
        NotFoundError: there is no such model.
        UnavailableError: the cluster or the database does not answer.
    """
    if name:
        check_known(name)
    config = mesh_config(home)
    with open_registry(home, config.database.uri) as registry:
        versions = registry.versions(name)
    record, running = running_mesh(home), None
    if record is not None:
        with joined_cluster(home, record.ray_address):
            running = states()
    known, deployed = owners(), DeployedModels(home.deployed).all()
    return [
        _status(
            one,
            known.get(one, Ownership("", "", "")),
            [version for version in versions if version.model == one],
            config.models.get(one),
            deployed.get(one),
            running,
        )
        for one in ([name] if name else known_models())
    ]


def _print(found: Sequence[ModelStatus]) -> None:
    table = Table("model", "state", "replicas", "live", "beside", "calls", "p50 ms", "owner")
    for one in found:
        colour = "green" if one.state == RUNNING else "yellow"
        trials = [f"{stage} {version}" for stage, version in one.stages.items() if stage != "live"]
        table.add_row(
            one.model,
            f"[{colour}]{one.state}[/{colour}]",
            f"{one.replicas} of {one.min_replicas} to {one.max_replicas}",
            one.stages.get(Stage.LIVE, ""),
            ", ".join(trials or one.beside),
            str(one.calls),
            f"{one.p50_ms:.1f}",
            escape(f"{one.owner} {one.contact}"),
        )
    console = Console()
    console.print(table)
    for one in found:
        if one.remark:
            console.print(f"  {one.model}: {escape(one.remark)}", style="yellow")


def status_command(
    name: Annotated[str, typer.Argument(help="Only this model.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for scripts.")] = False,
) -> None:
    """Shows models: stage, versions, replicas, load, latency, and who answers for each.

    Exits with 1 when one that is deployed does not run.

    Examples:

        recmesh model status

        recmesh model status cf --json
    """
    with clear_errors("recmesh model status"):
        found = model_statuses(Home.from_environment(), name)
    if as_json:
        told: list[dict[str, Any]] = [asdict(one) | {"remark": one.remark} for one in found]
        typer.echo(json.dumps(told[0] if name else told))
    else:
        _print(found)
    if any(one.message for one in found):
        raise typer.Exit(1)
