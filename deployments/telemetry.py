"""Opens what a process tells of itself: its log, its spans, its measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from recmesh.deployments.logs import log_as
from recmesh.deployments.mesh_config import TelemetryTable
from recmesh.deployments.metrics_endpoint import metrics_offered
from recmesh.deployments.span_export import spans_exported
from recmesh.storage.telemetry.mesh_measures import MEASURES


@contextmanager
def telemetry(
    table: TelemetryTable | Mapping[str, Any],
    application: str,
    *,
    instance: str = "",
    version: str = "",
    on_ray: bool = False,
    logs: bool = True,
) -> Iterator[None]:
    """What the configuration asks for, while the context is open.

    Args:
        table: of the configuration, or its values.
        application: what the process is: ``orchestrator``, ``catalog``, a model's name.
        instance: which replica; also the label ``replica`` of every series.
        version: of it, for spans.
        on_ray: within a replica, belonging to its event loop: the node's agent is told the
            measures. Elsewhere they are offered on ``metrics_port``, where that is set.
        logs: whether the log of this process is the application's, to be set up here.
    """
    if not isinstance(table, TelemetryTable):
        table = TelemetryTable(**table)
    constant = {"application": application, "replica": instance}
    with ExitStack() as stack:
        if logs:
            log_as(table.log_format, application)
        if table.otlp_endpoint:
            stack.enter_context(
                spans_exported(
                    table.otlp_endpoint, table.sample_ratio, application, instance, version
                )
            )
        if on_ray:
            # Only replicas know Ray.
            from recmesh.deployments.ray_metrics import RayMetrics

            stack.enter_context(RayMetrics(MEASURES, constant).pushed())
        elif table.metrics_port is not None:
            stack.enter_context(metrics_offered(MEASURES, table.metrics_port, constant))
        yield
