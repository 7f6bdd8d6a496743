"""What the edge's Envoy does before it runs out of memory or connections.

Pure functions, as in :mod:`recmesh.deployments.envoy_config`: Envoy's overload manager watches its
own heap and connections, and refuses work while there is too much of it rather than being killed.
"""

from __future__ import annotations

from typing import Any

from recmesh.deployments.edge_config import Limits

Json = dict[str, Any]

REFRESH_S = 0.25
FREE_MEMORY_AT = 0.9
"""Share of the heap from which memory that is free goes back."""
REFUSE_AT = 0.95
"""Share of the heap from which no request is taken."""
RESET_FROM, RESET_ALL_AT = 0.9, 0.98
"""Between these, the more of the requests that hold most memory end, the fuller the heap."""
TRACKED_POWER = 20
"""Requests that hold less than two to this bytes, 1 MiB, are not looked at."""
_TYPES = "type.googleapis.com/envoy.extensions.resource_monitors"
_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"


def manager(limits: Limits) -> Json:
    """The overload manager."""
    return {
        "refresh_interval": f"{REFRESH_S:.3f}s",
        "resource_monitors": [
            {
                "name": _HEAP,
                "typed_config": {
                    "@type": f"{_TYPES}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": limits.heap_bytes,
                },
            },
            {
                "name": _CONNECTIONS,
                "typed_config": {
                    "@type": f"{_TYPES}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": limits.connections,
                },
            },
        ],
        "actions": [
            _action("shrink_heap", {"threshold": {"value": FREE_MEMORY_AT}}),
            _action("stop_accepting_requests", {"threshold": {"value": REFUSE_AT}}),
            _action(
                "reset_high_memory_stream",
                {
                    "scaled": {
                        "scaling_threshold": RESET_FROM,
                        "saturation_threshold": RESET_ALL_AT,
                    }
                },
            ),
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": TRACKED_POWER},
    }


def _action(name: str, trigger: Json) -> Json:
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": _HEAP, **trigger}],
    }
