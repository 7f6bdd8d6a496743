"""How much it matters that a request is answered while not all can be."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """Who goes first, the smaller number before the larger one."""

    CRITICAL = 0
    NORMAL = 1
    BATCH = 2

    @classmethod
    def named(cls, name: str) -> Priority:
        """By its name in small letters; what is no name is NORMAL."""
        return _NAMES.get(name, cls.NORMAL)

    @classmethod
    def names(cls) -> list[str]:
        """Those that callers say, the most important first."""
        return list(_NAMES)


_NAMES = {priority.name.lower(): priority for priority in Priority}
