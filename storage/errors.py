"""The tree of errors that RecMesh raises on purpose.

::

    RecMeshError                   INTERNAL
    ├── InvalidRequestError        INVALID_ARGUMENT     names the field at fault
    ├── NotFoundError              NOT_FOUND            names what is missing
    ├── ConfigurationError         FAILED_PRECONDITION  says the fix; raised at start
    ├── DataError                  FAILED_PRECONDITION  input data breaks its schema
    ├── ArtifactError              DATA_LOSS            an artifact is damaged or foreign
    ├── VersionError               FAILED_PRECONDITION  this replica lacks the version asked for
    ├── UnavailableError           UNAVAILABLE          a dependency cannot be reached
    ├── DeadlineError              DEADLINE_EXCEEDED    no time is left
    ├── OverloadedError            RESOURCE_EXHAUSTED   a declared limit is reached
    ├── SilentCallerError          ABORTED              a stream on which nothing came
    ├── UnauthenticatedError       UNAUTHENTICATED      a call that does not say who makes it
    ├── ForbiddenError             PERMISSION_DENIED    a caller asks for what it was not given
    └── UnsupportedError           UNIMPLEMENTED        a call this part does not offer

Messages are for people, say the rule and the value, and hold no personal data: they
reach callers as they are. Everything else that escapes is a defect and reaches callers
as INTERNAL without its text.
"""

from __future__ import annotations

from typing import ClassVar


class RecMeshError(Exception):
    """Root of the tree. ``code`` is the canonical gRPC code's name."""

    code: ClassVar[str] = "INTERNAL"


class InvalidRequestError(RecMeshError):
    """A request breaks a rule. ``field`` is the path of the field at fault."""

    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotFoundError(RecMeshError):
    """Something named does not exist."""

    code = "NOT_FOUND"


class ConfigurationError(RecMeshError):
    """The configuration cannot work. The message says how to mend it."""

    code = "FAILED_PRECONDITION"


class DataError(RecMeshError):
    """Input data breaks its schema."""

    code = "FAILED_PRECONDITION"


class ArtifactError(RecMeshError):
    """An artifact is damaged, incomplete, or made by another format version."""

    code = "DATA_LOSS"


class VersionError(RecMeshError):
    """This replica does not hold the version that is asked for; another one may."""

    code = "FAILED_PRECONDITION"


class UnavailableError(RecMeshError):
    """A dependency cannot be reached. Worth retrying elsewhere or later."""

    code = "UNAVAILABLE"


class DeadlineError(RecMeshError):
    """The caller's deadline leaves no time."""

    code = "DEADLINE_EXCEEDED"


class OverloadedError(RecMeshError):
    """A declared limit is reached."""

    code = "RESOURCE_EXHAUSTED"


class SilentCallerError(RecMeshError):
    """A stream on which nothing came for too long; its caller may go on with another one.

    Not DEADLINE_EXCEEDED, which outlier detection may count as a failure of the replica.
    """

    code = "ABORTED"


class UnauthenticatedError(RecMeshError):
    """A call does not say, or not credibly, who makes it."""

    code = "UNAUTHENTICATED"


class ForbiddenError(RecMeshError):
    """A caller that is known asks for what the configuration does not give it."""

    code = "PERMISSION_DENIED"


class UnsupportedError(RecMeshError):
    """A call that this part does not offer."""

    code = "UNIMPLEMENTED"
