"""Runs checks one after another, and says how each ended."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.model_port import CallFailedError
from recmesh.offline.model_checks.registry import CHECKS
from recmesh.offline.model_checks.result import NotCheckedError, Result, Status
from recmesh.offline.model_checks.subject import Subject

FIXES = {
    "UNAVAILABLE": "The server went away: find in its log why it ended, such as memory.",
    "DEADLINE_EXCEEDED": "Answer within 10 s: it hangs, or is far too slow.",
    "UNIMPLEMENTED": "Offer the calls that Describe names, or name only those that are offered.",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One check and how it ended."""

    check: Check
    result: Result
    took_s: float

    def as_json(self) -> dict[str, Any]:
        """For scripts. JSON knows no infinity, so a value that is none is null."""
        value = self.result.value
        return {
            "check": self.check.id,
            "title": self.check.title,
            "status": self.result.status.value,
            "value": value if value is not None and math.isfinite(value) else None,
            "limit": self.result.limit,
            "unit": self.result.unit,
            "bound": self.result.bound,
            "said": self.result.said,
            "fix": self.result.fix,
            "took_s": round(self.took_s, 3),
        }


async def judged(subject: Subject, check: Check) -> Judged:
    """Makes one check; what it raises on purpose becomes its result."""
    started_s = time.perf_counter()
    try:
        result = await check.run(subject)
    except NotCheckedError as error:
        result = Result(Status.NOT_CHECKED, str(error))
    except CallFailedError as error:
        last = subject.last_error()
        result = Result(
            Status.FAILED,
            f"a valid request failed: {error}" + (f"; its log says last: {last}" if last else ""),
            FIXES.get(
                error.reply.code.name,
                "Valid requests are answered: find the error in the model's log.",
            ),
        )
    except Exception as error:  # noqa: BLE001 - train and load are their owner's code
        at = traceback.extract_tb(error.__traceback__)[-1]
        result = Result(
            Status.FAILED,
            f"{type(error).__name__}: {error} (at {at.filename}:{at.lineno})",
            "The model's own code failed in this process: mend it there.",
        )
    return Judged(check, result, time.perf_counter() - started_s)


async def all_judged(
    subject: Subject, checks: Mapping[str, Check] = CHECKS
) -> AsyncIterator[Judged]:
    """Makes checks in their order, and tells of each as it ends."""
    for check in checks.values():
        yield await judged(subject, check)
        await subject.revive()
