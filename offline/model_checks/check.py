"""What a check of a model is: one question to whatever serves it, with a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from recmesh.offline.model_checks.result import Result
from recmesh.offline.model_checks.subject import Subject


@dataclass(frozen=True)
class Check:
    """One thing that a model must do, and how it is seen."""

    id: str
    title: str
    measures: str
    """What is done, and the number with its limit."""
    why: str
    """What goes wrong in the mesh when it does not hold."""
    run: Callable[[Subject], Awaitable[Result]]
    """May raise NotCheckedError, and CallFailedError for a call that had to be answered."""
    trains: bool = False
    """Whether it trains the model, which takes as long as that takes."""
