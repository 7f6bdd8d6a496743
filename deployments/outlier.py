"""How long one replica is left alone that fails where others do not."""

from __future__ import annotations

FIRST_S = 0.5
LONGEST_S = 8.0
IN_A_ROW = 3
"""Failures that may be the call's fault, or chance, until they are the replica's."""


class Outlier:
    """What one replica did of late. Times are of one monotonic clock, in seconds.

    Whether it may be asked all the same, because the others are no better, is not decided here.
    """

    def __init__(self) -> None:
        self.until_s = 0.0
        """It is left alone until then."""
        self._in_a_row = 0
        self._ejections = 0

    @property
    def is_known(self) -> bool:
        """Whether it was left alone, and has not answered since."""
        return self._ejections > 0

    def succeeded(self) -> None:
        """It answered as fast as usual; what it did before is forgotten."""
        self._in_a_row = 0
        self._ejections = 0

    def erred(self, now_s: float) -> None:
        """It answered with an error, or another one answered before it.

        One that was left alone, and has not answered well since, is given one chance.
        """
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW or self.is_known:
            self.vanished(now_s)

    def vanished(self, now_s: float) -> None:
        """It could not be reached, or did not answer: it is left alone, each time for longer.

        Calls that were under way together tell of one fault, not of many.
        """
        self._in_a_row = 0
        if now_s < self.until_s:
            return
        self.until_s = now_s + min(FIRST_S * 2**self._ejections, LONGEST_S)
        self._ejections = min(self._ejections + 1, 16)
