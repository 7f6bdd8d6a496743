"""As whom a caller may record events, checked where they are written.

The edge sends with each call what the caller's table says, because the writer is one process: told
by its configuration it would start again whenever a table changes, and nobody could write.
"""

from __future__ import annotations

from recmesh.deployments.caller import current_caller, current_event_callers
from recmesh.storage.errors import ForbiddenError

ANYBODY = "*"


def refuse_events_of_others(recorded_as: str) -> None:
    """Holds the field ``caller`` of events against who makes the call that is being answered.

    Where the edge does not say who that is, it is not secure, or the call comes from inside the
    mesh; then every name is taken.

    Raises:
        ForbiddenError: the caller was not given this name, which is not repeated: it may be
            anything.
    """
    caller, others = current_caller(), current_event_callers()
    if not caller or recorded_as == caller or recorded_as in others or ANYBODY in others:
        return
    raise ForbiddenError(
        f"caller: {caller} may record events as {', '.join((caller, *others))}; more names go into "
        f"event_callers of its table [callers.{caller}]"
    )
