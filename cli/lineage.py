"""``recmesh lineage``: from a page, or a version, back to data, code and parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from recmesh.cli.clear_errors import clear_errors
from recmesh.cli.named_version import named_version
from recmesh.cli.written_data import recorded_database
from recmesh.orchestrator.decisions.decision import latest_pages
from recmesh.orchestrator.decisions.decision_record import opened
from recmesh.orchestrator.policy_store import PolicyStore
from recmesh.storage.artifacts import ArtifactStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.decision_log import DecisionLog
from recmesh.storage.embedding_registry import EmbeddingRegistry
from recmesh.storage.errors import NotFoundError
from recmesh.storage.home import Home
from recmesh.v1 import recommendation_pb2

TOLD_OF_CARDS = (
    "owner",
    "summary",
    "dataset_version",
    "newest_data",
    "trained_until",
    "seed",
    "code_version",
    "parameters",
    "metrics",
    "limitations",
)
GONE = "not kept any more"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Looks things up in one home folder. What is not there any more is said, not refused."""

    home: Home

    def model(self, model: str, version: str) -> dict[str, Any]:
        """A version of a model."""
        store = ArtifactStore(self.home.artifacts)
        try:
            card = store.card(model, version)
        except NotFoundError:
            return {"model": model, "version": version, "card": GONE}
        live = store.has_live(model) and store.live_version(model) == version
        told = {name: getattr(card, name) for name in TOLD_OF_CARDS}
        data = self._tables(card.dataset_version)
        return {"model": model, "version": version, "live": live, **told, "tables": data}

    def _tables(self, version: str) -> Any:
        """Files of the data's tables, named by their content, where they are still there."""
        there = Dataset.open_or_empty(self.home.dataset)
        if Dataset(version=version, files={}).ingested_version != there.version:
            return GONE
        return {name: file.name for name, file in there.files.items()}

    def policy(self, version: str) -> dict[str, Any]:
        """A policy."""
        try:
            return {"version": version, "card": PolicyStore(self.home.policies).card(version)}
        except NotFoundError:
            return {"version": version, "card": "of the configuration, or " + GONE}

    def embedding(self, version: str) -> dict[str, Any]:
        """An embedding version."""
        try:
            record = EmbeddingRegistry(self.home.vectors).get(version)
        except NotFoundError:
            return {"version": version, "record": GONE}
        told = {"version": version, "collection": record.collection, "times": dict(record.times)}
        return told | {"artifact": self.model("nlp", record.artifact)}

    def page(self, answer: recommendation_pb2.RecommendResponse) -> dict[str, Any]:
        """All that made a page."""
        versions = answer.versions
        models = [
            self.model(source.name, source.version)
            for source in answer.sources
            if source.version and (self.home.artifacts / source.name).is_dir()
        ]
        return {
            "request_id": answer.request_id,
            "policy": self.policy(versions.policy),
            "experiment_arms": dict(versions.experiment_arms),
            "embedding": self.embedding(versions.embedding) if versions.embedding else None,
            "models": models,
            "others": {
                source.name: source.version
                for source in answer.sources
                if source.version and not (self.home.artifacts / source.name).is_dir()
            },
        }


def _answers(home: Home, request_id: str) -> list[recommendation_pb2.RecommendResponse]:
    with recorded_database(home) as database:
        records = DecisionLog(database).of_request(request_id)
    if not records:
        raise NotFoundError(
            f"no page of request {request_id!r} is kept; the newest are recorded within a second, "
            "old ones are deleted"
        )
    answers = []
    for page in latest_pages([opened(found.record) for found in records]):
        answer = recommendation_pb2.RecommendResponse()
        answer.CopyFrom(page.answer)
        answer.request_id = request_id
        answers.append(answer)
    return answers


def _grow(tree: Tree, told: Any) -> None:
    for name, value in told.items() if isinstance(told, dict) else enumerate(told):
        if isinstance(value, dict | list) and value:
            title = value.get("model", name) if isinstance(value, dict) else name
            _grow(tree.add(f"[bold]{escape(str(title))}[/bold]"), value)
        elif value not in ("", None, {}, []):
            tree.add(escape(f"{name}  {value}"))


def lineage_command(
    what: Annotated[
        str, typer.Argument(help="A request's id, MODEL@VERSION, or MODEL for its live version.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Say what made a page, or a version: data, code, parameters, seed, policy, embedding.

    Equal data, code, parameters and seed give the same version again, bit for bit. Reads the home
    folder; needs no mesh.

    Examples:

        recmesh lineage 5f0c6a2e-…

        recmesh lineage cf@8199be6f --json

        recmesh lineage cf
    """
    home = Home.from_environment()
    store = ArtifactStore(home.artifacts)
    lineage = Lineage(home)
    with clear_errors("recmesh lineage"):
        told: list[dict[str, Any]]
        if "@" in what:
            named = named_version(what, store)
            told = [lineage.model(named.model, named.version)]
        elif store.has_live(what):
            told = [lineage.model(what, store.live_version(what))]
        else:
            told = [lineage.page(answer) for answer in _answers(home, what)]
    if as_json:
        typer.echo(json.dumps(told))
        return
    console = Console()
    for one in told:
        tree = Tree(f"[bold]{escape(what)}[/bold]")
        _grow(tree, one)
        console.print(tree, highlight=False, soft_wrap=True)
