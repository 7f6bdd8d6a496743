"""Decisions reach the log off the way of requests, again until it answers, or are counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from recmesh.deployments import decision_recorder
from recmesh.deployments.decision_recorder import DecisionRecorder
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.mesh import Snapshot
from recmesh.storage.errors import UnavailableError
from recmesh.v1 import decision_log_pb2
from tests.unit.test_decisions import feed, mesh_of, snapshot, the_decision  # noqa: F401


class Log:
    """Stands for the writer; may be away."""

    def __init__(self) -> None:
        self.away = False
        self.lost = 0
        self.records: dict[bytes, bytes] = {}
        self.came = asyncio.Event()

    async def record_decisions(
        self, request: decision_log_pb2.RecordDecisionsRequest, *, timeout_s: float
    ) -> None:
        self.came.set()
        if self.away:
            raise UnavailableError("away")
        self.lost += request.lost
        self.records |= {one.decision_id: one.record for one in request.decisions}

    async def read_decisions(self, request_id: str, *, timeout_s: float) -> list[bytes]:
        return list(self.records.values())


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_recorder, "EVERY_S", 0.001)
    monkeypatch.setattr(decision_recorder, "RETRY_S", 0.001)
    monkeypatch.setattr(decision_recorder, "LAST_TRY_S", 0.5)


@pytest.fixture
async def recorder(log: Log) -> AsyncIterator[DecisionRecorder]:
    made = DecisionRecorder(log)  # type: ignore[arg-type] # the half of the port that it asks
    yield made
    await made.close()


@pytest.fixture
async def decision(snapshot: Snapshot) -> Decision:  # noqa: F811
    mesh = mesh_of(snapshot)
    return (await the_decision(mesh, feed()))[1]


def copies(decision: Decision, count: int) -> list[Decision]:
    return [
        replace(decision, considered=replace(decision.considered, decision_id=bytes([n] * 16)))
        for n in range(count)
    ]


async def test_what_is_kept_is_recorded_and_found(
    recorder: DecisionRecorder, log: Log, decision: Decision
) -> None:
    recorder.keep(decision)
    await log.came.wait()
    (found,) = await recorder.find("r1", timeout_s=1)
    assert found.slate.chosen.tolist() == decision.slate.chosen.tolist()


async def test_while_the_log_is_away_decisions_wait(
    recorder: DecisionRecorder, log: Log, decision: Decision
) -> None:
    log.away = True
    for one in copies(decision, 3):
        recorder.keep(one)
    await log.came.wait()
    assert not log.records
    log.away = False
    await recorder.close()
    assert len(log.records) == 3
    assert log.lost == 0


async def test_what_does_not_fit_is_lost_oldest_first_and_counted(
    recorder: DecisionRecorder, log: Log, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_recorder, "MOST_WAITING", 2)
    for one in copies(decision, 5):
        recorder.keep(one)
    await recorder.close()
    assert sorted(log.records) == [bytes([3] * 16), bytes([4] * 16)]
    assert log.lost == 3


async def test_closing_records_what_is_left(log: Log, decision: Decision) -> None:
    recorder = DecisionRecorder(log)  # type: ignore[arg-type]
    recorder.keep(decision)
    await recorder.close()
    assert len(log.records) == 1


async def test_closing_does_not_wait_for_ever(log: Log, decision: Decision) -> None:
    log.away = True
    recorder = DecisionRecorder(log)  # type: ignore[arg-type]
    recorder.keep(decision)
    await asyncio.wait_for(recorder.close(), 5)
    assert not log.records
