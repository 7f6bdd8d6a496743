"""What is measured of the mesh: every name, its labels and its buckets.

``docs/observability.md`` lists them for whoever writes rules and dashboards; a test holds the two
together. No label holds anything about a doctor, and each has few values.
"""

from __future__ import annotations

from recmesh.storage.telemetry.measures import DURATIONS_S, Counter, Gauge, Histogram, Measures

_RATIOS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_COUNTS = (0, 10, 20, 50, 100, 200, 300, 400, 500, 750, 1000, 1500, 2000)

MEASURES = Measures()
"""Of this process."""

REQUESTS = MEASURES.add(
    Counter(
        "recmesh_requests_total",
        "Calls answered, by gRPC code; an endless stream when it ends, a card as one call.",
        ("method", "surface", "code"),
    )
)
REQUEST_DURATION = MEASURES.add(
    Histogram(
        "recmesh_request_duration_seconds",
        "Time a call took in the replica, waits for a turn included; cards, not streams.",
        ("method", "surface"),
        DURATIONS_S,
    )
)
STAGE_DURATION = MEASURES.add(
    Histogram(
        "recmesh_stage_duration_seconds",
        "Time a stage of a page took.",
        ("stage", "surface"),
        DURATIONS_S,
    )
)
SOURCE_CALLS = MEASURES.add(
    Counter(
        "recmesh_source_calls_total",
        "Calls of models, vector index and ledger within requests, by how they ended.",
        ("source", "state"),
    )
)
SOURCE_DURATION = MEASURES.add(
    Histogram(
        "recmesh_source_duration_seconds",
        "Time such a call took; calls that were not made, for an open circuit or want of time, "
        "are not in it.",
        ("source",),
        DURATIONS_S,
    )
)
DEGRADED_PAGES = MEASURES.add(
    Counter(
        "recmesh_degraded_pages_total",
        "Pages that lacked anything, each once.",
        ("surface",),
    )
)
DEGRADED_RESPONSES = MEASURES.add(
    Counter(
        "recmesh_degraded_responses_total",
        "Pages that lacked a source, by the source; a page that lacks two is in both.",
        ("surface", "source"),
    )
)
CANDIDATES = MEASURES.add(
    Histogram(
        "recmesh_candidates", "Distinct candidates retrieved for a page.", ("surface",), _COUNTS
    )
)
SPONSORED_SHARE = MEASURES.add(
    Histogram(
        "recmesh_slate_sponsored_ratio",
        "Share of a page's slots that a campaign pays for.",
        ("surface",),
        _RATIOS,
    )
)
TOPIC_SHARE = MEASURES.add(
    Histogram(
        "recmesh_slate_topics_ratio",
        "Different sets of topics on a page, as a share of its slots.",
        ("surface",),
        _RATIOS,
    )
)
PACING_ERROR = MEASURES.add(
    Gauge(
        "recmesh_campaign_pacing_error_ratio",
        "Smoothed error of delivery over the plan, in [-1, 1]; above 0: behind.",
        ("campaign_id",),
    )
)
PACING_SHORTFALL = MEASURES.add(
    Gauge(
        "recmesh_campaign_shortfall_ratio",
        "Impressions due in the last hours and not delivered, as a share, in [-1, 1]; below 0: "
        "ahead.",
        ("campaign_id",),
    )
)
DECISIONS_LOST = MEASURES.add(
    Counter("recmesh_decision_records_lost_total", "Pages whose decision record was lost.")
)
EMBEDDING = MEASURES.add(
    Gauge(
        "recmesh_embedding_version_info",
        "1 for the version that a model embeds in for requests now; 0 for earlier ones.",
        ("embedding", "version"),
    )
)
SHED = MEASURES.add(
    Counter(
        "recmesh_shed_requests_total",
        "Requests turned away because more is asked than can be answered in time.",
        ("priority",),
    )
)
REQUESTS_IN_FLIGHT = MEASURES.add(
    Gauge("recmesh_requests_in_flight", "Calls that the replica works on.")
)
MODEL_CALLS_IN_FLIGHT = MEASURES.add(
    Gauge(
        "recmesh_model_calls_in_flight",
        "Calls of an orchestrator to a model that are not answered yet.",
        ("model",),
    )
)
MODEL_REPLICAS = MEASURES.add(
    Gauge(
        "recmesh_model_replicas",
        "Replicas of a model that an orchestrator knows, by whether it leaves them alone.",
        ("model", "state"),
    )
)
