"""``recmesh experiment create``: checks everything that an experiment names, and keeps it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from recmesh.cli.actor import By, actor
from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.ready_version import require_ready
from recmesh.cli.served_policy import served_policy
from recmesh.cli.written_data import current_dataset, mesh_config
from recmesh.models.registry import known_models
from recmesh.offline.experiments.experiment_file import ArmTable, ExperimentFile
from recmesh.orchestrator.experiments.experiment import ALL, BUCKETS, Experiment
from recmesh.orchestrator.experiments.experiment_store import ExperimentStore
from recmesh.orchestrator.index_source import VECTOR_INDEX
from recmesh.orchestrator.policy import Policy
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.orchestrator.retrieval import FRESH, POPULAR
from recmesh.orchestrator.swipe.deal import SURFACE as SWIPE
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.embedding_registry import EmbeddingRegistry, State
from recmesh.storage.errors import ConfigurationError, NotFoundError, RecMeshError
from recmesh.storage.home import Home


@dataclass(frozen=True)
class _Made:
    """Policies of arms that have one of their own."""

    policies: dict[str, Policy]
    texts: dict[str, str]
    """TOML of those that are not kept yet."""


class _Checks:
    """What an experiment may name. Every check raises ConfigurationError with rule and value."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._policies = PolicyStore(home.policies)
        self._live = served_policy(home)
        self._sources = {*known_models(), *mesh_config(home).models, POPULAR, FRESH, VECTOR_INDEX}

    def whole(self, file: ExperimentFile) -> _Made:
        """Checks an experiment."""
        self._known("surfaces", file.surfaces, self._live.surfaces)
        if file.kind == "interleave" and SWIPE in file.surfaces:
            raise ConfigurationError(
                f"surfaces: {SWIPE} deals one card at a time, each by the arm of its doctor; "
                f"there is no page for two arms to pick in turn"
            )
        campaigns = {id_ for arm in file.arms for id_ in arm.without_campaigns if id_ != ALL}
        if campaigns:
            known = current_dataset(self._home).campaigns["campaign_id"].to_pylist()
            self._known("without_campaigns", sorted(campaigns), known)
        for arm in file.arms:
            self._embedding(arm)
            self._models(arm)
        made = _Made({}, {})
        for arm in file.arms:
            if arm.policy or arm.surfaces:
                self._policy(arm, file, made)
        return made

    def _policy(self, arm: ArmTable, file: ExperimentFile, into: _Made) -> None:
        place = f"arms.{arm.name}"
        base = self._live
        if arm.policy:
            try:
                base = self._policies.load(arm.policy)
            except NotFoundError as error:
                raise ConfigurationError(f"{place}.policy: {error}") from error
        self._known(f"{place}.surfaces", arm.surfaces, base.surfaces)
        if file.surfaces:
            self._known(f"{place}.surfaces", arm.surfaces, file.surfaces)
            self._known(f"surfaces, in the policy of {arm.name}", file.surfaces, base.surfaces)
        made = base
        if arm.surfaces:
            text = into.texts[arm.name] = changed(base, arm, f"{file.name}-{arm.name}")
            made = Policy.read(text.encode(), f"of arm {arm.name}")
        own, live = made.popularity_half_life_days, self._live.popularity_half_life_days
        if own != live:
            raise ConfigurationError(
                f"{place}.policy: {made.version} has a popularity_half_life_days of {own:g}, and "
                f"what serves {live:g}; one mesh counts popularity in one way"
            )
        for surface in file.surfaces or made.surfaces:
            rules = made.surfaces[surface]
            named = (*rules.sources, *rules.model_weights, *rules.affinity_weights)
            self._known(f"{place}.surfaces.{surface}: source or model", named, self._sources)
        into.policies[arm.name] = made

    def _embedding(self, arm: ArmTable) -> None:
        if not arm.embedding:
            return
        place = f"arms.{arm.name}.embedding"
        registry = EmbeddingRegistry(self._home.vectors)
        try:
            record = registry.get(arm.embedding)
        except NotFoundError as error:
            raise ConfigurationError(f"{place}: {error}") from error
        if record.state not in (State.VERIFIED, State.LIVE):
            raise ConfigurationError(
                f"{place}: {record.version} is {record.state}; only what is verified or live "
                f"serves: recmesh embed verify {record.version}"
            )

    def _models(self, arm: ArmTable) -> None:
        store = ArtifactStore(self._home.artifacts)
        for model, version in arm.models.items():
            try:
                require_ready(store, model, version)
            except RecMeshError as error:
                raise ConfigurationError(f"arms.{arm.name}.models.{model}: {error}") from error

    @staticmethod
    def _known(place: str, names: Collection[str], known: Collection[str]) -> None:
        for name in names:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise ConfigurationError(f"{place}: unknown {name!r}; there is {there}")


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of the slate's and campaigns' rules give what differs; weights are given whole."""
    merged = {**base, **changes}
    for name in ("slate", "campaigns", "half_life_days"):
        if isinstance(changes.get(name), dict):
            merged[name] = {**base[name], **changes[name]}
    return merged


def changed(base: Policy, arm: ArmTable, name: str) -> str:
    """TOML of the policy with what the arm says otherwise."""
    tables = base.model_dump(mode="json", exclude={"version"}, exclude_none=True)
    tables["name"] = name
    for surface, changes in arm.surfaces.items():
        # A front's points are of other weights, and preferences would leave the arm's.
        tables["surfaces"][surface] = _merged(tables["surfaces"][surface] | {"front": []}, changes)
    return tomli_w.dumps(tables)


def create_experiment(
    home: Home, file: ExperimentFile, text: str, by: str, *, check: bool = False
) -> Experiment:
    """Keeps an experiment that nobody takes part in yet; with ``check``, only says what is wrong.

    Raises:
        ConfigurationError: it names what is not there, or its layer has no room; with the rule.
    """
    made = _Checks(home).whole(file)
    versions = {arm: policy.version for arm, policy in made.policies.items()}
    wanted = file.experiment(versions, datetime.now(UTC))
    store = ExperimentStore(home.experiments)
    store.check(wanted)
    if check:
        return wanted
    for arm, policy_text in made.texts.items():
        card = {
            "surface": ", ".join(next(a for a in file.arms if a.name == arm).surfaces),
            "rule": f"experiment {file.name}, arm {arm}",
            "metrics": {},
            "created_by": by,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        PolicyStore(home.policies).publish(policy_text, card)
    plan = file.plan.model_dump(mode="json")
    return store.create(wanted, days=file.days, file=text, plan=plan, by=by)


def create_command(
    file: Annotated[Path, typer.Argument(help="The experiment; docs/experiments.md explains it.")],
    check: Annotated[bool, typer.Option("--check", help="Only say what is wrong.")] = False,
    by: By = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Keeps an experiment that nobody takes part in yet, and fixes how it will be analysed.

    Everything it names is checked first: policies, models, embedding versions, surfaces,
    campaigns, metrics, shares, and whether its layer has room.

    Examples:

        recmesh experiment create feed-diversity.toml --check

        recmesh experiment create feed-diversity.toml
    """
    home = Home.from_environment()
    with clear_errors("recmesh experiment create"):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {file}: {error}") from error
        wanted = ExperimentFile.read(text, str(file))
        made = create_experiment(home, wanted, text, actor(by), check=check)
        if not check:
            record = ExperimentStore(home.experiments).read().record(made.name)
    if check:
        typer.echo(json.dumps({"valid": True}) if as_json else f"{file} is sound")
        return
    if as_json:
        told = {"name": made.name, "plan_hash": record.plan_hash}
        typer.echo(json.dumps(told | {"experiment": made.model_dump(mode="json")}))
        return
    last = made.first_bucket + made.buckets - 1
    typer.echo(
        f"experiment {made.name}: buckets {made.first_bucket} to {last} of {BUCKETS} of layer "
        f"{made.layer}, plan {record.plan_hash}; nobody takes part yet"
    )
    typer.echo(f"next: recmesh experiment start {made.name}")
