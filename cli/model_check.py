"""``recmesh model check``: whether a model may take part, and what to fix."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.required_mesh import required_mesh
from recmesh.cli.stage_progress import StageProgress
from recmesh.cli.written_report import writable, write_report
from recmesh.deployments.mesh_record import MeshRecord
from recmesh.deployments.mesh_token import mesh_token
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.judged import Judged, all_judged
from recmesh.offline.model_checks.junit import junit_xml
from recmesh.offline.model_checks.registry import CHECKS
from recmesh.offline.model_checks.result import Status
from recmesh.offline.model_checks.target import opened
from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.home import Home

FAILED = 3
"""Exit status when a check failed; 1 and 2 are errors."""
COLOURS = {Status.PASSED: "green", Status.FAILED: "red", Status.NOT_CHECKED: "yellow"}
APPLICATION = re.compile(r"model-[a-z][a-z0-9-]*(@[0-9a-f]+)?|[a-z][a-z0-9-]*@[0-9a-f]+")


def check_command(
    target: Annotated[
        str,
        typer.Argument(
            help="A model's name or folder; its application in the running mesh (model-cf, "
            "cf@VERSION); or any host:port."
        ),
    ] = "",
    version: Annotated[
        str, typer.Option(help="Of the artifacts of a name or folder. Default: the live one.")
    ] = "",
    only: Annotated[list[str] | None, typer.Option(help="This check; may be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Not this one; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Of users, items and trainings.")] = 0,
    junit: Annotated[
        Path | None, typer.Option(help="Write the results as JUnit XML, .xml.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The results as JSON.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Say which checks there are.")] = False,
) -> None:
    """Says whether a model may take part in the mesh, and what to fix.

    A name or folder is served here by a process of its own; an application or address is asked
    where it serves. Ends with 0 when nothing failed, 3 when a check failed, 1 when nothing could
    be checked. See docs/model-checks.md.

    Examples:

        recmesh model check cf

        recmesh model check ./my_model --skip quality --skip calibration --junit checks.xml

        recmesh model check model-cf

        recmesh model check 127.0.0.1:7000 --only contract --only deadline --json

        recmesh model check --list
    """
    with clear_errors("recmesh model check"):
        chosen = _chosen(only or [], skip or [])
        if show:
            _list(chosen, as_json)
            return
        if not target:
            raise ConfigurationError("name what is checked: a model, its folder, or host:port")
        writable("--junit", junit, (".xml",))
        home = Home.from_environment()
        # Read before threads are started: the served process ends with the thread that starts it.
        address = _application_address(home, target) if APPLICATION.fullmatch(target) else ""
        token = mesh_token(home) if address else ""
        with StageProgress(as_json) as progress:
            model, found = asyncio.run(
                _run(address or target, home, seed, version, chosen, progress, token)
            )
        if junit is not None:
            write_report(junit, junit_xml(model, found))
    if as_json:
        typer.echo(
            json.dumps({"target": target, "seed": seed, "checks": [one.as_json() for one in found]})
        )
    else:
        _print(model, found, Console())
    if any(one.result.status is Status.FAILED for one in found):
        raise typer.Exit(FAILED)


def _chosen(only: Sequence[str], skip: Sequence[str]) -> dict[str, Check]:
    for name in (*only, *skip):
        if name not in CHECKS:
            raise ConfigurationError(f"no check {name}; there are {', '.join(CHECKS)}")
    chosen = {
        name: check
        for name, check in CHECKS.items()
        if (not only or name in only) and name not in skip
    }
    if not chosen:
        raise ConfigurationError("--only and --skip leave no check")
    return chosen


async def _run(
    target: str,
    home: Home,
    seed: int,
    version: str,
    chosen: Mapping[str, Check],
    progress: StageProgress,
    token: str,
) -> tuple[str, list[Judged]]:
    progress.stage(f"starting {target}")
    found: list[Judged] = []
    names = iter([*(check.title for check in chosen.values()), ""])
    async with opened(target, home, seed=seed, version=version, token=token) as subject:
        subject.progress = progress.stage(next(names))
        async for one in all_judged(subject, chosen):
            found.append(one)
            subject.progress = progress.stage(f"{len(found)}/{len(chosen)} {next(names)}")
        said = subject.said
        return f"{said.name} {said.version}", found


def _application_address(home: Home, target: str) -> str:
    """Where one replica of an application of the running mesh serves.

    Raises:
        NotFoundError: the mesh has no such application, or none of its replicas serves.
    """
    # Ray takes seconds to import.
    from recmesh.deployments.applications import states
    from recmesh.deployments.ray_cluster import joined_cluster

    mesh: MeshRecord = required_mesh(home)
    with joined_cluster(home, mesh.ray_address):
        known = states()
    for state in known:
        if target in (state.application, state.name) and state.replicas:
            return state.replicas[0].address
    raise NotFoundError(
        f"no replica of {target} serves; the mesh runs "
        f"{', '.join(state.application for state in known)}"
    )


def _list(checks: Mapping[str, Check], as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {"check": one.id, "title": one.title, "measures": one.measures, "why": one.why}
                    for one in checks.values()
                ]
            )
        )
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("check", "what is done, and the limit", "why"):
        table.add_column(column)
    for one in checks.values():
        table.add_row(
            f"{one.id}{' *' if one.trains else ''}", escape(one.measures), escape(one.why)
        )
    console = Console()
    console.print(table)
    console.print("* may train the model, which takes as long as that takes")


def _print(model: str, found: Sequence[Judged], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("number, limit")
    table.add_column("what was seen")
    table.add_column("s", justify="right")
    for one in found:
        result = one.result
        colour = COLOURS[result.status]
        table.add_row(
            one.check.id,
            f"[{colour}]{result.status.value}[/{colour}]",
            escape(result.number),
            escape(result.said),
            f"{one.took_s:.1f}",
        )
    console.print(table)
    failed = [one for one in found if one.result.status is Status.FAILED]
    for one in failed:
        console.print(f"[red]fix {one.check.id}:[/red] {escape(one.result.fix)}", highlight=False)
    skipped = sum(one.result.status is Status.NOT_CHECKED for one in found)
    console.print(
        f"{model}: {len(found) - len(failed) - skipped} passed, {len(failed)} failed, "
        f"{skipped} not checked",
        highlight=False,
    )
