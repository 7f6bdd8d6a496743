"""What an orchestrator replica offers to backend services."""

from __future__ import annotations

from recmesh.deployments.action_recorder import ActionRecorder
from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.catalog_writer import CatalogWriter
from recmesh.deployments.explain_methods import ExplainMethods
from recmesh.deployments.grpc_server import GrpcServer
from recmesh.deployments.grpc_service import add_service
from recmesh.deployments.mesh_token import inside_only
from recmesh.deployments.swipe_methods import ReadUp, SwipeMethods
from recmesh.deployments.trial_methods import TrialMethods
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.overload.priority_gate import PriorityGate
from recmesh.orchestrator.recommend import recommend
from recmesh.v1 import catalog_pb2, feedback_pb2, recommendation_pb2, trial_pb2

RECOMMENDATION = recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"]
FEEDBACK = feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"]
TRIAL = trial_pb2.DESCRIPTOR.services_by_name["TrialService"]
CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]


def edge_server(
    mesh: Mesh,
    writer: CatalogWriter | None = None,
    recorder: ActionRecorder | None = None,
    read_up: ReadUp | None = None,
    gate: PriorityGate | None = None,
    *,
    token: str = "",
    surfaces: CallerSurfaces | None = None,
) -> GrpcServer:
    """A server, not started yet, with every service callers may use.

    Args:
        mesh: what answers.
        writer: takes what callers write where it runs in this process; elsewhere the edge leads
            to its own application.
        recorder: of what users do with cards, which runs; None: nothing is recorded.
        read_up: reads the event log to its end; None: there is none.
        gate: at which requests for pages take their turn; None: all are worked on at once.
        token: of the mesh; only calls with it are taken. Empty: it has none.
        surfaces: that callers may ask for; None: callers are not known, and may ask for all.
    """
    may = surfaces or CallerSurfaces(None)

    async def answer(
        request: recommendation_pb2.RecommendRequest, remaining_s: float
    ) -> recommendation_pb2.RecommendResponse:
        may.check(request.surface)
        return await recommend(mesh, request, remaining_s)

    server = GrpcServer(
        [RECOMMENDATION.full_name, FEEDBACK.full_name, CATALOG.full_name],
        interceptors=inside_only(token),
    )
    swipe = SwipeMethods(mesh, server.meter, recorder, read_up, may=may)
    unary = {"Recommend": answer, **ExplainMethods(mesh, may).offered}
    add_service(server, RECOMMENDATION, unary, checked=True, streams=swipe.streams, gate=gate)
    feedback = writer.feedback if writer else None
    add_service(
        server,
        FEEDBACK,
        feedback.offered if feedback else {},
        checked=True,
        streams=feedback.streams if feedback else {},
    )
    add_service(server, TRIAL, TrialMethods(mesh).offered, checked=False)
    add_service(server, CATALOG, writer.catalog_service if writer else {}, checked=True)
    return server
