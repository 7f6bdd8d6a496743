"""Which surfaces each caller may ask for, checked where pages are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recmesh.deployments.caller import current_caller
from recmesh.storage.errors import ForbiddenError


class CallerSurfaces:
    """The configuration's word, by caller."""

    def __init__(self, surfaces: Mapping[str, Sequence[str]] | None) -> None:
        """``surfaces`` by caller; none: all of them. None: callers are not known, and may all."""
        self._surfaces = surfaces

    def check(self, surface: str) -> None:
        """Returns when the caller of the call that is being answered may ask for a surface.

        Raises:
            ForbiddenError: it may not, or the edge does not say who it is.
        """
        if self._surfaces is None:
            return
        caller = current_caller()
        if caller not in self._surfaces:
            raise ForbiddenError("the edge names no caller that has a table [callers.NAME]")
        allowed = self._surfaces[caller]
        if allowed and surface not in allowed:
            raise ForbiddenError(
                f"caller {caller} was not given the surface {surface!r}; it has "
                f"{', '.join(allowed)}"
            )
