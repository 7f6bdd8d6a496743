"""What an owner declares of a model: the file ``model.toml`` in the model's folder.

One file a model, so that owners never write to the same place. It is reviewed with the model's
code, packaged with it, and read by whatever trains, checks or deploys the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recmesh.storage.toml_file import read_toml

FILE = "model.toml"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""Kebab-case, as in policies and in ``Describe``."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Service(_Table):
    """What one replica promises to the orchestrator; ``recmesh model check`` holds it to it."""

    budget_ms: float = Field(default=100.0, gt=0, le=10_000)
    """99th percentile of a call for 200 candidates at ``load_rps``."""
    load_rps: float = Field(default=20.0, gt=0, le=100_000)
    """Calls a second at which the budget holds."""


class Replicas(_Table):
    """How many replicas serve, and what each needs. Reservations, not limits."""

    min_replicas: int = Field(default=1, ge=1, le=1000)
    max_replicas: int = Field(default=1, ge=1, le=1000)
    num_cpus: float = Field(default=0.2, gt=0)
    num_gpus: float = Field(default=0.0, ge=0)
    target_inflight: float = Field(default=4, gt=0)
    """More calls in flight per replica than this add a replica, fewer take one away."""
    pip: tuple[str, ...] = ()
    """Requirements of this model alone, installed beside ours; they may contradict ours."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}"
            )
        return self


class Range(_Table):
    """A number to be searched, from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False
    """Whether ratios count rather than differences; then ``low`` is above 0."""
    whole: bool = False
    """Whether it is an integer."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g}: with log it must be above 0")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("low and high of a whole number are whole")
        return self


class Choice(_Table):
    """One of several values."""

    choices: tuple[str | bool | int | float, ...] = Field(min_length=2)


class Search(_Table):
    """Parameters of training that retraining searches, on events earlier than it is judged by."""

    trials: int = Field(default=0, ge=0, le=10_000)
    """Trainings, each before the last tenth of the events that are earlier than the judged ones."""
    parameters: dict[str, Range | Choice] = Field(default_factory=dict)
    """By name, as ``options.parameters`` has them."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.trials) != bool(self.parameters):
            raise ValueError("trials and parameters go together")
        return self


class ModelDeclaration(_Table):
    """Everything that others must know of a model before they run it."""

    name: Name
    owner: str = Field(min_length=1)
    """Team that answers for it."""
    contact: str = Field(min_length=1)
    """Where that team is reached: an address, a channel."""
    summary: str = Field(min_length=1)
    """One line for people."""
    baseline: Literal["popularity", "item-knn"] = "popularity"
    """What its pages must beat on events later than those it learned from."""
    blend: dict[Name, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """By surface, the share of relevance that it asks for where no policy weighs it yet."""
    service: Service = Service()
    replicas: Replicas = Replicas()
    search: Search = Search()

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads ``model.toml``, or the one in the folder ``file``.

        Raises:
            ConfigurationError: says which value breaks which rule.
        """
        if file.is_dir():
            file /= FILE
        return read_toml(cls, file)
