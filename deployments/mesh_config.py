"""What runs and how much of it: the file ``deployments/mesh.toml`` as frozen types."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from recmesh.deployments.caller_table import CallerTable, refuse_shared_identities
from recmesh.deployments.client_tls import ClientTls, PemFile
from recmesh.deployments.deployed_models import DeployedModels
from recmesh.deployments.ip_address import DEFAULT_ADDRESS, LOOPBACK
from recmesh.models.declaration import Replicas
from recmesh.models.registry import declaration, known_models
from recmesh.orchestrator.policy import DEFAULT_POLICY
from recmesh.storage.errors import ConfigurationError
from recmesh.storage.home import Home

log = structlog.get_logger(__name__)

DEFAULT_CONFIG = Path(__file__).with_name("mesh.toml")
PREFIX = "RECMESH_"
NESTED = "__"
DEPLOYED = "_deployed"
"""Key under which validation is handed what owners deployed."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:]+):\d{1,5}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Scaled(_Table):
    """How many replicas, and what each needs."""

    min_replicas: int = Field(default=1, ge=1, le=1000)
    max_replicas: int = Field(default=1, ge=1, le=1000)
    num_cpus: float = Field(default=0.2, gt=0)
    target_inflight: float = Field(default=4, gt=0)
    node_labels: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}"
            )
        return self


class EdgeTable(_Table):
    """Where callers enter, and how they are known."""

    address: Address = DEFAULT_ADDRESS
    secure: bool = False
    certificate: PemFile = ""
    key: PemFile = ""
    authority: PemFile = ""
    token_keys: PemFile = ""
    token_issuer: str = Field(default="recmesh", min_length=1)
    token_audience: str = Field(default="recmesh", min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = [bool(file) for file in (self.certificate, self.key, self.authority)]
        if any(given) and not all(given):
            raise ValueError(
                "certificate, key and authority go together: give all three, or none for "
                "development ones in the home folder"
            )
        return self


class RayTable(_Table):
    """Which Ray cluster."""

    address: str = ""
    num_cpus: float = Field(default=0, ge=0)


class VectorIndexTable(_Table):
    """Which Milvus."""

    uri: str = ""


class DatabaseTable(_Table):
    """Which SQL database."""

    uri: str = Field(default="", pattern=r"^$|^postgresql(\+psycopg)?://")


class AttributionTable(_Table):
    """What signs attribution tokens."""

    key_file: str = Field(default="", pattern=r"^$|^/")

    def keys_of(self, home: Home) -> Path:
        """The key file, absolute."""
        return Path(self.key_file) if self.key_file else home.attribution_keys.resolve()


class CatalogTable(_Table):
    """The one writer of catalog and events."""

    num_cpus: float = Field(default=0.1, gt=0)
    node_labels: dict[str, str] = Field(default_factory=dict)


class CampaignsTable(_Table):
    """How sponsored slots are held and priced."""

    step_s: float = Field(default=60.0, gt=0, le=3600)
    hold_s: float = Field(default=900.0, gt=0, le=86_400)


class EventsTable(_Table):
    """What users did."""

    keep_days: float = Field(default=400.0, ge=31, le=36_500)


class DecisionsTable(_Table):
    """Records of what pages were chosen from."""

    keep_days: float = Field(default=14.0, gt=0, le=3650)


class TelemetryTable(_Table):
    """What processes tell of themselves, and whom."""

    otlp_endpoint: str = Field(
        default="", pattern=r"^$|^https?://(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$"
    )
    sample_ratio: float = Field(default=0.0, ge=0, le=1)
    log_format: Literal["text", "json"] = "text"
    metrics_port: int | None = Field(default=None, ge=0, le=65535)


class OrchestratorTable(_Scaled):
    """The orchestrator's replicas."""

    policy: str = ""

    @property
    def policy_file(self) -> Path:
        """The policy to serve, absolute."""
        return Path(self.policy).resolve() if self.policy else DEFAULT_POLICY


class ModelTable(_Scaled):
    """Where a model runs. What is not said is as its owner deployed or declared it."""

    placement: Literal["replicas", "orchestrator", "external"] = "replicas"
    version: str = ""
    addresses: tuple[Address, ...] = ()
    tls: ClientTls | None = None
    num_gpus: float = Field(default=0, ge=0)
    pip: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if (self.placement == "external") != bool(self.addresses):
            raise ValueError('addresses go with placement "external", and only with it')
        if self.placement != "external" and self.tls is not None:
            raise ValueError('tls goes with placement "external", and only with it')
        if self.placement == "external" and self.version:
            raise ValueError(
                "version goes with models that run here: what runs at an address is whatever its "
                "owner started there"
            )
        if len(set(self.addresses)) != len(self.addresses):
            raise ValueError("addresses holds one twice")
        return self


def declared_table(name: str) -> ModelTable:
    """How a model runs that neither a file nor a deployment names: as its owner declares."""
    return ModelTable(**_declared(name))


class MeshConfig(BaseSettings):
    """The whole mesh. Environment variables override the file."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter=NESTED
    )

    edge: EdgeTable = EdgeTable()
    callers: dict[Name, CallerTable] = Field(default_factory=dict)
    ray: RayTable = RayTable()
    vector_index: VectorIndexTable = VectorIndexTable()
    database: DatabaseTable = DatabaseTable()
    attribution: AttributionTable = AttributionTable()
    catalog: CatalogTable = CatalogTable()
    campaigns: CampaignsTable = CampaignsTable()
    events: EventsTable = EventsTable()
    decisions: DecisionsTable = DecisionsTable()
    telemetry: TelemetryTable = TelemetryTable()
    orchestrator: OrchestratorTable = OrchestratorTable()
    models: dict[Name, ModelTable] = Field(default_factory=dict)

    @property
    def replicas_host(self) -> str:
        """Where replicas listen; empty: wherever others in the cluster reach them.

        On a cluster of our own nothing but the edge needs to be seen from other machines.
        """
        return "" if self.ray.address else LOOPBACK

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file's values."""
        return (env_settings, init_settings)

    @model_validator(mode="before")
    @classmethod
    def _as_owners_say(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Under the tables of models: what their owners deployed, and under that, declare."""
        values = dict(values)
        deployed = values.pop(DEPLOYED, {})
        tables = values.get("models", {})
        if not isinstance(tables, dict):
            return values
        models: dict[str, Any] = {}
        for name in dict.fromkeys([*tables, *deployed]):
            table = tables.get(name, {})
            if name not in known_models() and name not in tables:
                # A model that is not installed here any more is nothing to the others.
                continue
            if isinstance(table, dict) and name in known_models():
                table = _over(_over(_declared(name), deployed.get(name, {})), table)
            models[name] = table
        return {**values, "models": models}

    @model_validator(mode="after")
    def _models_of_ours_are_known(self) -> Self:
        for name, model in self.models.items():
            if model.placement != "external" and name not in known_models():
                raise ValueError(
                    f"models.{name}: not in models/registry.py, nor in an installed package; "
                    f"there are {', '.join(known_models())}"
                )
        return self

    @model_validator(mode="after")
    def _callers_can_be_told_apart(self) -> Self:
        refuse_shared_identities(self.callers)
        if self.edge.secure and not self.callers:
            raise ValueError(
                "edge.secure lets nobody in without a table [callers.NAME]; add one, as in "
                '[callers.operator] with methods = ["RecommendationService"]'
            )
        return self

    @classmethod
    def load(
        cls,
        file: Path = DEFAULT_CONFIG,
        home: Home | None = None,
        deployed: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        secure: bool = False,
    ) -> Self:
        """Reads the file, then the environment.

        Args:
            file: of the mesh.
            home: what owners deployed there runs, too, where the file does not say otherwise.
            deployed: replicas by model, instead of those.
            secure: the edge is, whatever the file says.

        Raises:
            ConfigurationError: says which value breaks which rule.
        """
        try:
            _refuse_unknown_variables()
            values = _with_policy_beside(file, tomllib.loads(file.read_text(encoding="utf-8")))
            if deployed is None and home is not None:
                found = DeployedModels(home.deployed).all()
                deployed = {name: one.replicas.said for name, one in found.items()}
            if secure:
                values = {**values, "edge": {**values.get("edge", {}), "secure": True}}
            return cls(**(values | {DEPLOYED: deployed or {}}))
        except FileNotFoundError as error:
            raise ConfigurationError(f"there is no {file}") from error
        except OSError as error:
            raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file} is not TOML: {error}") from error
        except SettingsError as error:
            raise ConfigurationError(
                f"an environment variable {PREFIX}… is not JSON: {error}"
            ) from error
        except ValidationError as error:
            broken = "; ".join(_said(problem) for problem in error.errors())
            raise ConfigurationError(
                f"{file} or an environment variable {PREFIX}…: {broken}"
            ) from error


def _declared(name: str) -> dict[str, Any]:
    """What a model's replicas need by its owner's word."""
    try:
        return declaration(name).replicas.model_dump()
    except ConfigurationError as error:
        # One owner's broken file keeps no other model from running.
        log.warning("model without a declaration", model=name, reason=str(error))
        return Replicas().model_dump()


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values of ``above``, else of ``below``. A bound that is said moves one that is not."""
    merged = {**below, **above}
    try:
        if "max_replicas" in above and "min_replicas" not in above:
            merged["min_replicas"] = min(merged["min_replicas"], int(above["max_replicas"]))
        if "min_replicas" in above and "max_replicas" not in above:
            merged["max_replicas"] = max(merged["max_replicas"], int(above["min_replicas"]))
    except (TypeError, ValueError):
        pass  # validation says what is wrong with it
    return merged


def _with_policy_beside(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The file's policy path as seen from the file: commands run in other folders later."""
    table = values.get("orchestrator")
    if isinstance(table, dict) and isinstance(table.get("policy"), str) and table["policy"]:
        policy = str(file.resolve().parent / table["policy"])
        return {**values, "orchestrator": {**table, "policy": policy}}
    return values


def _said(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place + ': ' if place else ''}{problem['msg']} (is {problem['input']!r})"


def _refuse_unknown_variables() -> None:
    """A misspelt variable would be ignored in silence."""
    for variable in os.environ:
        table, nested, _ = variable.removeprefix(PREFIX).lower().partition(NESTED)
        if variable.startswith(PREFIX) and nested and table not in MeshConfig.model_fields:
            raise ConfigurationError(
                f"environment variable {variable}: there is no table {table}; "
                f"there are {', '.join(MeshConfig.model_fields)}"
            )
