"""Group commit: writes that wait for the same disk share one transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from recmesh.storage.errors import OverloadedError, UnavailableError

Write = TypeVar("Write")

MOST_WAITING = 64
"""Writes that may wait; more are refused, so that memory stays bounded."""
MOST_TOGETHER = 16
"""Writes that share a transaction, unless they are told to weigh more."""
STOP_TIMEOUT_S = 10.0


class GroupCommit(Generic[Write]):
    """One thread that writes what has come in meanwhile, all at once.

    ``commit`` is given the waiting writes and returns each one's answer, or the error that
    refuses it; what it raises is everybody's error.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Write]], list[Any]],
        *,
        most_waiting: int = MOST_WAITING,
        most_together: int = MOST_TOGETHER,
        weight: Callable[[Write], int] = lambda _: 1,
    ) -> None:
        """A group is full when its writes weigh ``most_together`` or more."""
        self._commit = commit
        self._most_waiting = most_waiting
        self._most_together = most_together
        self._weight = weight
        self._waiting: queue.Queue[tuple[Write, Future[Any]] | None] = queue.Queue(most_waiting)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> Future[Any]:
        """The answer to come, once the write is durable.

        Raises:
            OverloadedError: too many writes wait.
            UnavailableError: the writer has ended.
        """
        if self._closed:
            raise UnavailableError("the writer has ended")
        answer: Future[Any] = Future()
        try:
            self._waiting.put_nowait((write, answer))
        except queue.Full:
            raise OverloadedError(
                f"{self._most_waiting} writes wait already; try again later"
            ) from None
        return answer

    def _run(self) -> None:
        waiting = self._waiting.get()
        while waiting is not None:
            group = [waiting]
            weight = self._weight(waiting[0])
            while weight < self._most_together:
                try:
                    waiting = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if waiting is None:
                    break
                group.append(waiting)
                weight += self._weight(waiting[0])
            self._write(group)
            if waiting is not None:
                waiting = self._waiting.get()

    def _write(self, group: list[tuple[Write, Future[Any]]]) -> None:
        # Whoever gave up waiting before it began is spared the write.
        group = [
            (write, answer) for write, answer in group if answer.set_running_or_notify_cancel()
        ]
        if not group:
            return
        try:
            answers = self._commit([write for write, _ in group])
        except Exception as error:  # noqa: BLE001 - it is its callers' to know
            answers = [error] * len(group)
        for (_, future), answer in zip(group, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def close(self) -> None:
        """Writes what waits, then ends."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join(STOP_TIMEOUT_S)
