"""Who may call the mesh: the tables ``[callers.NAME]`` of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recmesh.orchestrator.overload.priority import Priority
from recmesh.v1 import catalog_pb2, feedback_pb2, recommendation_pb2

TRUST_DOMAIN = "recmesh"
SPIFFE_ID = r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$"
PAGES = "RecommendationService"
"""The service whose calls are made for a surface."""
EVENTS = "FeedbackService"
"""The service whose calls record events."""

METHODS: Mapping[str, tuple[str, ...]] = {
    name: tuple(method.name for method in module.DESCRIPTOR.services_by_name[name].methods)
    for module, name in (
        (recommendation_pb2, PAGES),
        (feedback_pb2, EVENTS),
        (catalog_pb2, "CatalogService"),
    )
}
"""What callers may be given, by service of the package ``recmesh.v1``."""

EVENT_CALLER = r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/-]{0,127})$"
"""What ``caller`` of events may be for a table to list it; * is whatever it says."""

EventCaller = Annotated[str, Field(pattern=EVENT_CALLER)]
SurfaceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]


class CallerTable(BaseModel):
    """One caller: how it is known, and what it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spiffe_id: str = Field(default="", pattern=rf"^$|{SPIFFE_ID}")
    methods: tuple[str, ...] = Field(min_length=1)
    surfaces: tuple[SurfaceName, ...] = ()
    event_callers: tuple[EventCaller, ...] = Field(default=(), max_length=50)
    requests_per_s: int = Field(default=100, ge=1, le=1_000_000)
    priority: str = Priority.NORMAL.name.lower()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for said in self.methods:
            service, _, method = said.partition("/")
            if service not in METHODS or (method and method not in METHODS[service]):
                known = METHODS.get(service)
                raise ValueError(
                    f"methods: {said!r} is not of the contract; write a service "
                    f"({', '.join(METHODS)}) or one method of it, as in {PAGES}/Recommend"
                    + (f"; {service} has {', '.join(known)}" if known else "")
                )
        services = {said.partition("/")[0] for said in self.methods}
        for key, given, service in (
            ("surfaces", self.surfaces, PAGES),
            ("event_callers", self.event_callers, EVENTS),
        ):
            if given and service not in services:
                raise ValueError(
                    f"{key} is about {service}, of which this caller has no method; give it one, "
                    f"or take {key} out"
                )
        priorities = [priority.name.lower() for priority in Priority]
        if self.priority not in priorities:
            raise ValueError(f"priority must be one of {', '.join(priorities)}")
        return self

    def identity(self, name: str) -> str:
        """What its certificate (URI SAN) or its token (``sub``) must hold."""
        return self.spiffe_id or f"spiffe://{TRUST_DOMAIN}/caller/{name}"

    @property
    def paths(self) -> tuple[str, ...]:
        """HTTP paths of its methods, each once."""
        found: dict[str, None] = {}
        for said in self.methods:
            service, _, method = said.partition("/")
            for one in (method,) if method else METHODS[service]:
                found[f"/recmesh.v1.{service}/{one}"] = None
        return tuple(found)


def refuse_shared_identities(callers: Mapping[str, CallerTable]) -> None:
    """Raises ValueError where two callers could not be told from each other."""
    names: dict[str, str] = {}
    for name, caller in callers.items():
        identity = caller.identity(name)
        if identity in names:
            raise ValueError(
                f"callers.{name}: {identity} is the spiffe_id of callers.{names[identity]}, too; "
                "give each its own"
            )
        names[identity] = name
